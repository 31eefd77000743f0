"""Vocabularies: what `config.data.vocab` names, behind one small interface.

    'arithmetic', 'ascii', 'bytes'   one token a character, or a byte: below
    'bpe(1024)'                      a byte-level BPE of so many tokens, trained on the study's text
    'models/qwen', 'spiece.model'    a tokenizer on disk: see scaling/data/subwords.py

Ids of a character vocabulary: 0 padding, 1 stop, 2 unknown, then the characters in order. Any other
vocabulary may give 0 to a token: what is padding is said by segment ids and lengths, never by ids.
"""

import json
import pathlib
import re
import string
from collections.abc import Callable, Iterable
from typing import NamedTuple

from scaling.errors import BadInput

PADDING, STOP, UNKNOWN = 0, 1, 2  # of a character vocabulary
SPECIAL = 3  # ids below this stand for no character
BYTES = 256


class Vocab(NamedTuple):
  """A vocabulary: a few numbers and functions."""

  name: str  # as config.data.vocab has it
  size: int  # the greatest id + 1
  stop: int  # the id that ends a response
  encode: Callable[[str], list[int]]  # a response's text: no stop token, and no other special one
  # a prompt's text: in a chat template, or after a bos token, or as it is
  prompt: Callable[[str], list[int]]
  decode: Callable[[Iterable[int]], str]  # the text up to the first stop token
  missing: Callable[[str], str | None]  # the first character that it cannot write, or None
  spelled: Callable[[], list[bytes]]  # what each id adds to a text, in UTF-8; b'' for nothing


def _characters(name: str, characters: str) -> Vocab:
  """One token a character; one that is not in the vocabulary becomes UNKNOWN, read as U+FFFD."""
  table = {character: SPECIAL + i for i, character in enumerate(characters)}

  def encode(text):
    return [table.get(character, UNKNOWN) for character in text]

  def decode(ids):
    return ''.join(characters[i] if i >= 0 else '\ufffd' for i in _kept(ids))

  def missing(text):
    return next((character for character in text if character not in table), None)

  def spelled():
    return [b'', b'', '\ufffd'.encode(), *(character.encode() for character in characters)]

  size, prompt = SPECIAL + len(characters), _conversing(encode)
  return Vocab(name, size, STOP, encode, prompt, decode, missing, spelled)


def _bytes(name: str) -> Vocab:
  """One token a byte of UTF-8."""

  def encode(text):
    return [SPECIAL + byte for byte in text.encode('utf-8', 'replace')]

  def decode(ids):
    parts = (bytes([i]) if i >= 0 else '\ufffd'.encode() for i in _kept(ids))
    return b''.join(parts).decode('utf-8', 'replace')

  def spelled():
    return [b'', b'', '\ufffd'.encode(), *(bytes([byte]) for byte in range(BYTES))]

  size, prompt = SPECIAL + BYTES, _conversing(encode)
  return Vocab(name, size, STOP, encode, prompt, decode, lambda text: None, spelled)


def _conversing(encode: Callable[[str], list[int]]) -> Callable[[str], list[int]]:
  """`Vocab.prompt` without a template: of a chat that `written` gives one message after another,
  the stop token behind each of the assistant's."""

  def prompt(text):
    found = turns(text)
    if found is None:
      return encode(text)
    stop = {'assistant': [STOP]}
    return [i for one in found for i in encode(one['content']) + stop.get(one['role'], [])]

  return prompt


def _kept(ids: Iterable[int]):
  """Ids of characters, less SPECIAL, up to the stop token; padding is skipped."""
  for i in ids:
    if i == STOP:
      return
    if i != PADDING:
      yield int(i) - SPECIAL


CHARACTERS = {
  # the short prompts and worked steps of the arithmetic tasks: "12,18 gcd=", "3,1,2 desc="
  'arithmetic': string.digits + '+-*/=().,#;: \nx' + 'acdegms' + 'l',
  'ascii': ''.join(map(chr, range(32, 127))) + '\n',
}
VOCABS = {name: _characters(name, characters) for name, characters in CHARACTERS.items()}
VOCABS['bytes'] = _bytes('bytes')


CHAT = '[{"role": '  # begins the prompt of a chat of several messages


def written(turns: list[dict]) -> str:
  """Messages of a chat, {'role', 'content'} each, as the text of a prompt of style 'chat'."""
  return json.dumps(
    [{'role': t['role'], 'content': t['content']} for t in turns], ensure_ascii=False
  )


def turns(prompt: str) -> list[dict] | None:
  """The messages of which a prompt is what `written` gives; None for one that is a user's text."""
  if not prompt.startswith(CHAT):
    return None
  try:
    found = json.loads(prompt)
  except ValueError:
    return None
  whole = all(
    isinstance(one, dict) and set(one) == {'role', 'content'} and isinstance(one['content'], str)
    for one in found
  )
  return found if whole else None


def contents(prompt: str) -> str:
  """The text of a prompt; of a chat of several messages, of all of them."""
  found = turns(prompt)
  return prompt if found is None else '\n'.join(one['content'] for one in found)


def holders(character: str) -> list[str]:
  """Names of the character vocabularies that have a character."""
  return [vocab.name for vocab in VOCABS.values() if vocab.missing(character) is None]


def bpe_size(name: str) -> int | None:
  """N of 'bpe(N)': how many tokens to train; None for the name of any other vocabulary.

  Raises BadInput where N is too small: the bytes and the stop token come first.
  """
  found = re.fullmatch(r'bpe\((\d{1,7})\)', name)
  if found and int(found[1]) <= BYTES:
    raise BadInput(f'data.vocab is {name!r}: N must be at least {BYTES + 1}, the bytes and a stop')
  return int(found[1]) if found else None


def named(name: str, chat: bool = False, folder=None) -> Vocab:
  """The vocabulary of that name, its prompts in the tokenizer's chat template where `chat`.

  folder: where a copy of the tokenizer's files is kept, or a trained one; else `name` is the path.
  Raises BadInput for one that is not there, or that cannot be used.
  """
  if name in VOCABS:
    if chat:
      _refuse_chat(name)
    return VOCABS[name]
  from scaling.data import subwords  # the packages that it needs are for these alone

  return subwords.load(name if folder is None else folder, name, chat)


def same(name: str, other: str) -> bool:
  """Whether a vocabulary gives a text the ids of another, the name of a character vocabulary or a
  folder with tokenizers. One that is yet to be trained gives others than any."""
  if name in VOCABS or other in VOCABS or bpe_size(name) is not None:
    return name == other
  from scaling.data import subwords

  return subwords.same(name, pathlib.Path(other))


def check(name: str, chat: bool = False) -> int:
  """The vocabulary's size, known before any data are drawn. Raises BadInput as `named` does."""
  size = bpe_size(name)
  if size is None:
    return named(name, chat).size
  if chat:
    _refuse_chat(name)
  return size


def _refuse_chat(name: str) -> None:
  raise BadInput(
    f"data.style is 'chat' and data.vocab = {name!r} has no chat template: name a folder with a "
    "tokenizer that has one, or use data.style = 'full'"
  )
