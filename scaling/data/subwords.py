"""Tokenizers of Hugging Face and of SentencePiece, and a byte-level BPE of one's own.

A tokenizer on disk is a folder with a tokenizer.json (and, beside it, the files that say what ends
a text and how a chat is written), that file itself, or a SentencePiece file `*.model`.

Text is never read as a special token: '<|im_end|>' in a problem is some characters. The special
tokens of a prompt come from the tokenizer's chat template, or are what its post-processor puts
before any text (a bos token); the one of a response is the stop token at its end.
"""

import functools
import hashlib
import itertools
import json
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable

import sentencepiece
import tokenizers
from tokenizers import decoders, models, pre_tokenizers, trainers

from scaling.data import chat_templates, pieces
from scaling.data.vocab import VOCABS, Vocab
from scaling.errors import BadInput

BESIDE = (
  'tokenizer_config.json',
  'special_tokens_map.json',
  'generation_config.json',
  'config.json',
  'chat_template.jinja',
)
END_OF_TEXT = '<|endoftext|>'  # the stop token of a BPE trained here, its id 0


def files(path) -> list[pathlib.Path]:
  """The files that a tokenizer is made of, the main one first. BadInput where there is none."""
  path = pathlib.Path(path)
  main = path / 'tokenizer.json' if path.is_dir() else path
  if path.is_dir() and not main.is_file():
    found = sorted(path.glob('*.model'))
    if len(found) != 1:
      raise BadInput(
        f'{path}: no tokenizer.json in this folder, and {len(found)} files *.model: '
        'data.vocab names a folder with one tokenizer, or its file'
      )
    main = found[0]
  if not main.is_file():
    raise BadInput(
      f'data.vocab is {str(path)!r}: it must be one of {", ".join(VOCABS)}, bpe(N), or the path of '
      'a tokenizer (a folder with a tokenizer.json, or a SentencePiece file *.model), and there is '
      'no such path'
    )
  if main.suffix == '.model':
    return [main]
  return [main, *(file for file in (main.parent / name for name in BESIDE) if file.is_file())]


def copy(path, folder: pathlib.Path) -> None:
  """Copies a tokenizer's files, so that the copy is a tokenizer of the same ids."""
  folder.mkdir()
  main, *others = files(path)
  shutil.copyfile(main, folder / f'tokenizer{main.suffix}')
  for other in others:
    shutil.copyfile(other, folder / other.name)


def tokenizers_in(folder: pathlib.Path) -> list[pathlib.Path]:
  """The main files of the tokenizers in a folder: it may have one of each kind, or none."""
  both = folder / 'tokenizer.json', *sorted(folder.glob('*.model'))
  return [file for file in both if file.is_file()]


def same(path, folder: pathlib.Path) -> bool:
  """Whether the tokenizer at a path has the vocabulary of one in a folder: equal ids of equal
  tokens, whatever ends a text. BadInput as `files` raises it."""
  return any(_ids(files(path)[0]) == _ids(file) for file in tokenizers_in(folder))


def _ids(main: pathlib.Path) -> str:
  """A hash of a tokenizer's tokens and their ids, but for those that were added."""
  stat = main.stat()
  return _hash_of_ids(main, stat.st_mtime_ns, stat.st_size)


@functools.lru_cache(maxsize=64)
def _hash_of_ids(main: pathlib.Path, *when) -> str:
  content = main.read_bytes()
  if main.suffix != '.model':
    content = json.dumps(_object(main)['model']['vocab'], sort_keys=True).encode()
  return hashlib.sha256(content).hexdigest()


def load(path, name: str, chat: bool) -> Vocab:
  """The tokenizer at a path, as a vocabulary of that name.

  Raises BadInput, naming the file, where it cannot be read, has no token to stop at, or, where
  `chat`, has no template or one that fails.
  """
  try:
    found = [(str(file), file.stat().st_mtime_ns, file.stat().st_size) for file in files(path)]
    return _load(tuple(found), name, chat)
  except OSError as error:
    raise BadInput(f'{error.filename or path}: {error.strerror or error}') from None


@functools.lru_cache(maxsize=8)
def _load(found: tuple, name: str, chat: bool) -> Vocab:
  main, *others = (pathlib.Path(path) for path, *_ in found)
  if main.suffix == '.model':
    return _sentencepiece(main, name, chat)
  return _hugging_face(main, others, name, chat)


# -- SentencePiece


def _sentencepiece(path: pathlib.Path, name: str, chat: bool) -> Vocab:
  """A SentencePiece model as it is: its own eos, and no token before a prompt (as T5 has it)."""
  try:
    model = sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
  except RuntimeError:
    raise BadInput(
      f'{path}: not a SentencePiece model: give the file that its trainer wrote'
    ) from None
  size, stop, unknown = model.get_piece_size(), model.eos_id(), model.unk_id()
  if stop < 0:
    raise BadInput(f'{path}: it has no eos piece to stop at: train it with an eos_id')
  if chat:
    raise BadInput(
      f"{path}: a SentencePiece model has no chat template: use data.style = 'full', or name a "
      'folder with a tokenizer.json'
    )

  def encode(text):
    return model.encode(chat_templates.utf8(text))

  def decode(ids):
    return model.decode([i for i in _until(stop, ids) if i < size])

  def missing(text):
    pairs = zip(
      model.encode(chat_templates.utf8(text)),
      model.encode(chat_templates.utf8(text), out_type=str),
      strict=True,
    )
    return next((piece.lstrip('\u2581')[:1] for i, piece in pairs if i == unknown), None)

  def spelled():
    def one(i):
      if model.is_byte(i):
        return bytes([int(model.id_to_piece(i)[3:-1], 16)])
      if i == unknown:
        return model.decode([i]).encode()
      return b'' if model.is_control(i) else model.id_to_piece(i).replace('\u2581', ' ').encode()

    return list(map(one, range(size)))

  return Vocab(name, size, stop, encode, encode, decode, missing, spelled)


def _until(stop: int, ids: Iterable[int]) -> list[int]:
  return list(itertools.takewhile(lambda i: i != stop, map(int, ids)))


# -- tokenizer.json


def _hugging_face(main: pathlib.Path, others, name: str, chat: bool) -> Vocab:
  written = _object(main)
  try:
    tokenizer = tokenizers.Tokenizer.from_str(main.read_text('utf-8'))
  except Exception as error:  # the package raises nothing more special
    raise BadInput(
      f'{main}: not a tokenizer ({chat_templates.line(error)}): give a tokenizer.json as '
      'transformers saves it'
    ) from None
  tokenizer.no_truncation()
  tokenizer.no_padding()
  if getattr(tokenizer.model, 'dropout', None):
    tokenizer.model.dropout = None
  beside = {file.name: _object(file) for file in others if file.suffix == '.json'}
  config = beside.get('special_tokens_map.json', {}) | beside.get('tokenizer_config.json', {})
  named = {key: _content(value) for key, value in config.items() if key.endswith('_token')}
  named = {key: text for key, text in named.items() if text is not None}
  ends = [tokenizer.token_to_id(named['eos_token'])] if 'eos_token' in named else []
  if ends == [None]:
    raise BadInput(
      f'{main}: its eos_token {named["eos_token"]!r} is not among its tokens: mend '
      f'tokenizer_config.json beside it'
    )
  for file in ('generation_config.json', 'config.json'):
    ids = beside.get(file, {}).get('eos_token_id')
    ends += [i for i in (ids if isinstance(ids, list) else [ids]) if isinstance(i, int)]
  end = next((token for token in map(tokenizer.id_to_token, ends) if token), None)
  if end is not None:
    named.setdefault('eos_token', end)
    _make_special(tokenizer, end)

  encode = functools.partial(_plain, tokenizer)
  if pieces.trained_here(written):
    encode = pieces.looked_up(encode)
  vocab = functools.partial(_vocab, name, tokenizer, encode, _unknown(written['model']))
  if not chat:
    if end is None:
      raise BadInput(
        f'{main}: no token to stop at: name its eos_token in a tokenizer_config.json beside it'
      )
    first = tokenizer.encode('a')  # with what the post-processor puts around any text
    special = list(zip(first.ids, first.special_tokens_mask, strict=True))
    before = [i for i, mark in itertools.takewhile(lambda pair: pair[1], special)]
    tokenizer.encode_special_tokens = True
    return vocab(end, lambda text: before + encode(text))
  source, template = chat_templates.find(main, others, config)
  given = pathlib.Path(name)  # the files may be a copy of those that a person can mend
  source = (given.parent if given.suffix == '.json' else given) / source.name
  render = chat_templates.renderer(source, template, named)
  end = chat_templates.end_of_turn(render, _specials(tokenizer)) or end
  if end is None:
    raise BadInput(
      f"{source}: its chat template writes no special token after the assistant's message, and "
      'there is no eos_token: name one in tokenizer_config.json'
    )
  _make_special(tokenizer, end)
  marked = tokenizers.Tokenizer.from_str(tokenizer.to_str())  # reads special tokens in a text
  tokenizer.encode_special_tokens = True  # of which this one makes plain tokens
  specials = sorted(_specials(tokenizer), key=len, reverse=True)
  special = re.compile('|'.join(map(re.escape, specials)))
  plain, in_template = (functools.partial(_plain, each) for each in (tokenizer, marked))
  prompt = functools.partial(
    chat_templates.prompt, plain, in_template, marked.token_to_id, special, render
  )
  prompt('1+1=?')  # a template that fails says so here
  return vocab(end, prompt)


def _vocab(
  name: str, tokenizer, encode: Callable, unknown: int | None, end: str, prompt: Callable
) -> Vocab:
  size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
  stop = tokenizer.token_to_id(end)
  bytewise = 'ByteLevel' in _decoding(tokenizer) and _bytes_of_characters().keys() <= (
    tokenizer.get_vocab().keys()
  )

  def decode(ids):
    return tokenizer.decode(_until(stop, ids), skip_special_tokens=False)

  def missing(text):
    if bytewise:
      return None
    text = chat_templates.utf8(text)
    encoding, written = tokenizer.encode(text, add_special_tokens=False), set()
    for i, (start, past) in zip(encoding.ids, encoding.offsets, strict=True):
      if i != unknown:
        written.update(range(start, past))
    lost = (c for at, c in enumerate(text) if at not in written and not c.isspace())
    return next(lost, None)

  spelled = functools.partial(_spelled, tokenizer)
  return Vocab(name, size, stop, encode, prompt, decode, missing, lambda: spelled(size))


def _spelled(tokenizer, size: int) -> list[bytes]:
  """What each id adds to a text that has begun: the bytes that a byte-level token stands for, and
  else what a decoder puts behind a token that is there already."""
  steps = _decoding(tokenizer)
  added = tokenizer.get_added_tokens_decoder()
  tokens = [tokenizer.id_to_token(i) for i in range(size)]
  if 'ByteLevel' in steps:
    byte_of = _bytes_of_characters()
    return [
      b''
      if token is None
      else token.encode()
      if i in added or not set(token) <= set(byte_of)
      else bytes(byte_of[character] for character in token)
      for i, token in enumerate(tokens)
    ]
  of_byte = {f'<0x{byte:02X}>': bytes([byte]) for byte in range(256)} if steps else {}
  first = next(i for i, token in enumerate(tokens) if token and i not in added)
  before = tokenizer.decode([first], skip_special_tokens=False)
  behind = lambda i: tokenizer.decode([first, i], skip_special_tokens=False)[len(before) :]
  return [
    b'' if token is None else of_byte[token] if token in of_byte else behind(i).encode()
    for i, token in enumerate(tokens)
  ]


def _decoding(tokenizer) -> set[str]:
  """The names of the steps that make text of tokens."""
  steps = json.loads(tokenizer.to_str()).get('decoder') or {}
  return {step['type'] for step in steps.get('decoders', [steps]) if 'type' in step}


def _bytes_of_characters() -> dict[str, int]:
  """The alphabet of byte-level tokens: printable Latin-1 stands for itself, any other byte for one
  of the characters from U+0100 on (GPT-2's table)."""
  own = [*range(33, 127), *range(161, 173), *range(174, 256)]
  others = [byte for byte in range(256) if byte not in own]
  return {chr(byte): byte for byte in own} | {chr(256 + i): b for i, b in enumerate(others)}


def _plain(tokenizer, text: str) -> list[int]:
  """Ids of a text in which nothing is special."""
  return tokenizer.encode(chat_templates.utf8(text), add_special_tokens=False).ids


def _make_special(tokenizer, token: str) -> None:
  """Marks a token of the vocabulary as special, where its file does not."""
  if token not in _specials(tokenizer):
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False)])


def _specials(tokenizer) -> list[str]:
  return [t.content for t in tokenizer.get_added_tokens_decoder().values() if t.special]


def _unknown(model: dict) -> int | None:
  """The id that a tokenizer gives to what it cannot write, or None."""
  if isinstance(model.get('unk_id'), int):
    return model['unk_id']
  return model['vocab'].get(model['unk_token']) if model.get('unk_token') else None


def _object(path: pathlib.Path) -> dict:
  """A JSON object. Raises BadInput, naming the file."""
  try:
    value = json.loads(path.read_text('utf-8'))
  except (ValueError, RecursionError) as error:
    raise BadInput(
      f'{path}: not JSON ({chat_templates.line(error)}): fetch or mend the file'
    ) from None
  if not isinstance(value, dict):
    raise BadInput(f'{path}: not a JSON object: fetch or mend the file')
  return value


def _content(token) -> str | None:
  """The text of a special token: a configuration has it bare, or in an object."""
  text = token.get('content') if isinstance(token, dict) else token
  return text if isinstance(text, str) else None


# -- a tokenizer of one's own


def train(texts: Iterable[str], size: int, folder: pathlib.Path) -> None:
  """Trains a byte-level BPE (1508.07909) of exactly `size` tokens, and writes it into `folder`.

  Its tokens: END_OF_TEXT (id 0), the 256 bytes, then the merges, most frequent pair first; a pair
  met once is not merged. The same texts give the same file. Raises BadInput where they have too
  few pairs.
  """
  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
    [
      pre_tokenizers.Split(tokenizers.Regex(pieces.PIECES), 'isolated'),
      pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]
  )
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=size,
    min_frequency=2,
    show_progress=False,
    special_tokens=[END_OF_TEXT],
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
  )
  tokenizer.train_from_iterator(texts, trainer)
  if tokenizer.get_vocab_size() != size:
    raise BadInput(
      f"data.vocab is 'bpe({size})': the text to train on yields {tokenizer.get_vocab_size()} "
      f"tokens: use 'bpe({tokenizer.get_vocab_size()})' or less, or ask for more problems"
    )
  folder.mkdir()
  (folder / 'tokenizer.json').write_text(tokenizer.to_str(), 'utf-8')
  (folder / 'tokenizer_config.json').write_text(json.dumps({'eos_token': END_OF_TEXT}) + '\n')
