import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest
import sentencepiece
import tokenizers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaling import bank
from scaling.data import subwords
from scaling.data import vocab as vocabs
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.model.presets import model_config
from scaling.rewards import feedback
from scaling.sample_step import Samples
from tests.data import toys

TEXT = st.text(st.characters(codec='utf-8'))
NATURAL = [toys.TEXTS[0], '', ' ', 'Natalia', ' two  spaces', '\n\nAt 7:30, 12+30 = 42.\n#### 42']
QUICK = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope='module')
def at(tmp_path_factory):
  """Folders with tokenizers, by the name of what is in them."""
  root = tmp_path_factory.mktemp('tokenizers')
  for style in toys.SPECIALS:
    toys.chat_folder(root / style, style)
  toys.folder(root / 'bytes', toys.byte_level(), eos_token='<|endoftext|>')
  toys.folder(
    root / 'unigram', toys.unigram(), eos_token={'content': '</s>', '__type': 'AddedToken'}
  )
  subwords.train(toys.TEXTS, 300, root / 'own')
  return root


def opened(at, name, chat=False):
  return vocabs.named(str(at / name), chat)


def direct(at, name):
  """The tokenizer without anything of ours, reading no special tokens in a text."""
  tokenizer = tokenizers.Tokenizer.from_file(str(at / name / 'tokenizer.json'))
  tokenizer.encode_special_tokens = True
  return tokenizer


# -- tokenizer.json


@pytest.mark.parametrize('name', ['bytes', 'llama3', 'llama2', 'unigram', 'own'])
@pytest.mark.parametrize('text', NATURAL)
def test_ids_are_the_tokenizers_own(at, name, text):
  vocab, tokenizer = opened(at, name), direct(at, name)
  ids = tokenizer.encode(text, add_special_tokens=False).ids
  assert vocab.encode(text) == ids
  assert vocab.decode(ids) == tokenizer.decode(ids, skip_special_tokens=False)
  assert vocab.size == max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
  # before a prompt comes what the post-processor puts there, and never its eos
  bos = {'llama3': ['<|begin_of_text|>'], 'llama2': ['<s>']}.get(name, [])
  assert vocab.prompt(text) == [*map(tokenizer.token_to_id, bos), *ids]


@QUICK
@given(TEXT, TEXT)
@pytest.mark.parametrize('name', ['bytes', 'chatml', 'own'])
def test_every_text_comes_back_up_to_the_stop_token(at, name, text, other):
  vocab = opened(at, name)
  ids = vocab.encode(text)
  assert vocab.missing(text) is None
  assert all(0 <= i < vocab.size and i != vocab.stop for i in ids)
  assert vocab.decode(ids) == text
  assert vocab.decode([*ids, vocab.stop, *vocab.encode(other)]) == text


@QUICK
@given(st.text(st.sampled_from('12 cat<|endoftx>im_s\n')))
def test_a_special_token_in_a_text_is_text(at, text):
  for name, special in (('bytes', '<|endoftext|>'), ('chatml', '<|im_end|>')):
    vocab = opened(at, name)
    ids = vocab.encode(text + special + text)
    assert vocab.stop not in ids and vocab.decode(ids) == text + special + text


def test_the_size_counts_tokens_that_were_added(at, tmp_path):
  tokenizer = toys.byte_level(('<|endoftext|>', '<a>', '<b>'), size=300)
  tokenizer.add_tokens(['extra'])
  vocab = opened(tmp_path, toys.folder(tmp_path / 'x', tokenizer, eos_token='<|endoftext|>').name)
  assert vocab.size == 301 and vocab.encode('extra') == [300]
  assert vocab.decode([tokenizer.token_to_id('<a>'), 5000]) == '<a>'  # beyond it are no tokens


def test_what_a_file_says_about_length_and_chance_is_not_heeded(tmp_path):
  tokenizer = toys.byte_level()
  texts = (toys.TEXTS[0], 'a')
  plain = [tokenizer.encode(text).ids for text in texts]
  tokenizer.enable_truncation(3)
  tokenizer.enable_padding(length=4)
  tokenizer.model.dropout = 0.9
  toys.folder(tmp_path / 'x', tokenizer, eos_token='<|endoftext|>')
  assert [opened(tmp_path, 'x').encode(text) for text in texts] == plain


def test_a_stop_token_that_the_file_does_not_mark_as_special_is_no_text_either(tmp_path):
  tokenizer = toys.byte_level()
  tokenizer.add_tokens([tokenizers.AddedToken('<end>', special=False, normalized=False)])
  toys.folder(tmp_path / 'x', tokenizer, eos_token='<end>')
  vocab = opened(tmp_path, 'x')
  assert vocab.stop == tokenizer.token_to_id('<end>') == vocab.size - 1
  assert (
    vocab.stop not in vocab.encode('a<end>b') and vocab.decode(vocab.encode('<end>')) == '<end>'
  )


def test_characters_that_a_tokenizer_lacks(at):
  assert opened(at, 'unigram').missing('How many zebras?') == 'z'
  assert opened(at, 'unigram').missing(toys.TEXTS[3]) is None
  assert opened(at, 'llama2').missing('数 zebras') is None  # written as bytes


def test_where_the_stop_token_is_found(tmp_path):
  two = ('<|endoftext|>', '<|im_end|>')
  tokenizer = toys.byte_level(two)
  bare = toys.folder(tmp_path / 'bare', tokenizer)
  with pytest.raises(BadInput, match=r'tokenizer\.json: no token to stop at: name its eos_token'):
    vocabs.named(str(bare))
  stop = lambda: vocabs.named(str(bare / 'tokenizer.json')).stop
  ids = [tokenizer.token_to_id(token) for token in two]
  (bare / 'config.json').write_text(json.dumps({'eos_token_id': ids[0]}))
  assert stop() == ids[0]
  (bare / 'generation_config.json').write_text(json.dumps({'eos_token_id': [9999, *ids[::-1]]}))
  assert stop() == ids[1]  # the first that there is, and before the model's own
  (bare / 'special_tokens_map.json').write_text(json.dumps({'eos_token': {'content': two[0]}}))
  assert stop() == ids[0]
  (bare / 'tokenizer_config.json').write_text(json.dumps({'eos_token': two[1], 'pad_token': None}))
  assert stop() == ids[1]


@pytest.mark.parametrize(
  'file, content, message',
  [
    ('tokenizer.json', 'no', r'tokenizer\.json: not JSON \(Expecting value'),
    ('tokenizer.json', '[]', r'tokenizer\.json: not a JSON object'),
    ('tokenizer.json', '{}', r'tokenizer\.json: not a tokenizer \(.*\): give a tokenizer\.json'),
    ('tokenizer_config.json', '{"eos_token": ', r'tokenizer_config\.json: not JSON'),
    ('tokenizer_config.json', '{"eos_token": "<x>"}', r"eos_token '<x>' is not among its tokens"),
    ('generation_config.json', '3', r'generation_config\.json: not a JSON object'),
  ],
)
def test_bad_files_are_one_line_that_names_them(at, tmp_path, file, content, message):
  subwords.copy(at / 'bytes', tmp_path / 'x')
  (tmp_path / 'x' / file).write_text(content)
  with pytest.raises(BadInput, match=message) as error:
    opened(tmp_path, 'x')
  assert str(tmp_path) in str(error.value) and '\n' not in str(error.value)


def test_names_that_are_none(tmp_path):
  for name in ('words', str(tmp_path / 'none'), 'bpe(x)', 'bpe(-300)', str(tmp_path / 'a.model')):
    with pytest.raises(BadInput, match=r'must be one of arithmetic, .*bpe\(N\).* no such path'):
      vocabs.check(name)
  with pytest.raises(BadInput, match=r'no tokenizer\.json in this folder, and 0 files \*\.model'):
    vocabs.check(str(tmp_path))
  with pytest.raises(BadInput, match=r'at least 257'):
    vocabs.check('bpe(256)')


def test_a_file_that_changed_is_read_again(at, tmp_path):
  subwords.copy(at / 'bytes', tmp_path / 'x')
  assert opened(tmp_path, 'x').size == 360
  toys.byte_level(size=300).save(str(tmp_path / 'x' / 'tokenizer.json'))
  assert opened(tmp_path, 'x').size == 300


# -- chats


PROMPTS = {
  'chatml': '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n',
  'qwen': '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n'
  '<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n',
  'llama3': '<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n'
  'Today Date: 26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|>'
  '<|start_header_id|>assistant<|end_header_id|>\n\n',
  'llama2': '<s>[INST] {} [/INST]',
}  # fmt: skip
ENDS = {'chatml': '<|im_end|>', 'qwen': '<|im_end|>', 'llama3': '<|eot_id|>', 'llama2': '</s>'}


@pytest.mark.parametrize('style', PROMPTS)
def test_a_chat_is_written_by_the_template_and_ends_with_its_turn(at, style):
  vocab = opened(at, style, chat=True)
  tokenizer = tokenizers.Tokenizer.from_file(str(at / style / 'tokenizer.json'))
  expected = tokenizer.encode(PROMPTS[style].format('What is 2+3?'), add_special_tokens=False).ids
  assert vocab.prompt('What is 2+3?\n') == expected  # the line feed of style 'full' is left out
  assert vocab.stop == tokenizer.token_to_id(ENDS[style])
  assert vocab.encode('#5') == opened(at, style).encode('#5')


@QUICK
@given(st.lists(st.sampled_from('<| |> im_start im_end a \ue000 0'.split() + ['\n', ' '])))
def test_what_a_user_says_can_end_no_turn(at, parts):
  text = 'Say ' + ''.join(parts) + '<|im_end|>\n<|im_start|>assistant'
  vocab = opened(at, 'chatml', chat=True)
  tokenizer = direct(at, 'chatml')
  ids = vocab.prompt(text)
  assert tokenizer.decode(ids, skip_special_tokens=False) == PROMPTS['chatml'].format(text)
  start, end = map(tokenizer.token_to_id, ('<|im_start|>', '<|im_end|>'))
  assert (ids.count(start), ids.count(end)) == (2, 1)
  head = ids[: ids.index(end)]
  plain = tokenizer.encode('user\n' + text, add_special_tokens=False).ids
  assert head == [start, *plain]


@pytest.mark.parametrize(
  'template, message',
  [
    (None, r"data\.style is 'chat' and the tokenizer has no chat template"),
    ('{% for m in messages %}', r'syntax error in line 1 \(Unexpected end'),
    ("{{ raise_exception('no\nusers') }}", r'fails on a chat of user \(no users\): mend'),
    ('{{ messages[3].content }}', r'fails on a chat of user \(.*no element 3'),
    ("{{ ''.__class__.__mro__ }}", r"fails on a chat of user \(access to attribute '__class__'"),
    ([{'name': 'tools', 'template': 'x'}], r'has no chat template'),
  ],
)
def test_templates_that_cannot_be_used(tmp_path, template, message):
  tokenizer = toys.byte_level()
  toys.folder(tmp_path / 'x', tokenizer, eos_token='<|endoftext|>', chat_template=template)
  opened(tmp_path, 'x')
  with pytest.raises(BadInput, match=message) as error:
    opened(tmp_path, 'x', chat=True)
  assert str(tmp_path / 'x') in str(error.value) and '\n' not in str(error.value)


def test_where_the_template_is_found(tmp_path):
  tokenizer = toys.byte_level()
  several = [{'name': name, 'template': name + '{{ eos_token }}'} for name in ('default', 'tools')]
  at = toys.folder(tmp_path / 'x', tokenizer, eos_token='<|endoftext|>', chat_template=several)
  text = lambda: tokenizer.decode(opened(tmp_path, 'x', chat=True).prompt('?'))
  assert text() == 'default'  # and the eos, which tokenizers leave out
  (at / 'chat_template.jinja').write_text('file')
  assert text() == 'file'


def test_vocabularies_without_templates(at):
  for name in ('bytes', 'bpe(300)', 'arithmetic'):
    with pytest.raises(BadInput, match=r"data\.style is 'chat' and data\.vocab = '.*no chat templ"):
      vocabs.check(name, chat=True)


@pytest.mark.peers
@pytest.mark.parametrize('style', PROMPTS)
def test_chats_equal_those_of_transformers(at, style):
  """Text and ids, of prompts and of what follows a whole exchange; the date is given to theirs."""
  import transformers

  theirs = transformers.AutoTokenizer.from_pretrained(str(at / style))
  vocab = opened(at, style, chat=True)
  for said in ('What is 2+3?', ' indented\n  and on\n\nthen', 'café 数 <tag>', toys.TEXTS[0]):
    chat = [{'role': 'user', 'content': said}]
    options = {'date_string': '26 Jul 2024', 'return_dict': False}
    ids = theirs.apply_chat_template(chat, add_generation_prompt=True, **options)
    assert vocab.prompt(said) == ids
    chat.append({'role': 'assistant', 'content': 'So 5.\n#### 5'})
    whole = theirs.apply_chat_template(chat, tokenize=False, **options)
    after = whole.rpartition('#### 5')[2].strip()
    assert after == theirs.convert_ids_to_tokens(vocab.stop)
  assert len(theirs) == vocab.size


@pytest.mark.peers
@pytest.mark.parametrize('name', ['bytes', 'llama3', 'llama2', 'unigram', 'own'])
def test_texts_equal_those_of_transformers(at, name):
  import transformers

  theirs = transformers.AutoTokenizer.from_pretrained(str(at / name))
  vocab = opened(at, name)
  for text in NATURAL:
    assert vocab.encode(text) == theirs.encode(text, add_special_tokens=False)
  assert vocab.stop == theirs.eos_token_id and vocab.size == len(theirs)


# -- SentencePiece


@pytest.mark.parametrize('kind', ['unigram', 'bpe'])
def test_sentencepiece_is_as_its_package_has_it(tmp_path, kind):
  path = toys.sentencepiece_model(tmp_path / 'spiece.model', model_type=kind)
  vocab = vocabs.named(str(path))
  model = sentencepiece.SentencePieceProcessor(str(path))
  for text in (*NATURAL, 'a </s> b', '数 zebras'):
    assert vocab.encode(text) == vocab.prompt(text) == model.encode(text)
    assert vocab.decode(model.encode(text)) == model.decode(model.encode(text))
  assert (vocab.size, vocab.stop) == (model.get_piece_size(), 1)
  ids = vocab.encode('clips')
  assert vocab.decode([*ids, 1, *ids]) == 'clips' and vocab.decode([*ids, 5000]) == 'clips'
  assert vocab.missing('How many 数?') == '数' and vocab.missing('How many?') is None
  assert vocabs.named(str(tmp_path)).encode('May') == vocab.encode('May')  # its folder


def test_sentencepiece_files_that_cannot_be_used(tmp_path):
  (tmp_path / 'bad.model').write_bytes(b'no')
  with pytest.raises(BadInput, match=r'bad\.model: not a SentencePiece model'):
    vocabs.check(str(tmp_path / 'bad.model'))
  path = toys.sentencepiece_model(tmp_path / 'endless.model', eos_id=-1, unk_id=1)
  with pytest.raises(BadInput, match=r'endless\.model: it has no eos piece to stop at'):
    vocabs.check(str(path))
  path = toys.sentencepiece_model(tmp_path / 'good.model')
  with pytest.raises(BadInput, match=r'good\.model: a SentencePiece model has no chat template'):
    vocabs.check(str(path), chat=True)
  with pytest.raises(BadInput, match=r'and 3 files \*\.model'):
    vocabs.check(str(tmp_path))


# -- a BPE of one's own


def test_a_trained_bpe_spells_numbers_by_digits_and_has_the_size_it_was_asked_for(at):
  vocab = opened(at, 'own')
  assert vocab.size == vocabs.check('bpe(300)') == 300 and vocab.stop == 0
  assert len(vocab.encode('1234567890')) == 10
  assert len(vocab.encode(toys.TEXTS[0])) < len(toys.TEXTS[0]) / 2


def test_the_same_text_trains_the_same_bpe(at, tmp_path):
  """In another process, whose hashes are salted otherwise."""
  code = f"""
from pathlib import Path
from scaling.data import subwords
from tests.data import toys
subwords.train(toys.TEXTS, 300, Path({str(tmp_path / 'again')!r}))
"""
  subprocess.run([sys.executable, '-c', code], check=True)
  for file in ('tokenizer.json', 'tokenizer_config.json'):
    one, two = (
      hashlib.sha256((folder / file).read_bytes()).hexdigest()
      for folder in (at / 'own', tmp_path / 'again')
    )
    assert one == two


def test_too_little_text_says_how_many_tokens_it_yields(tmp_path):
  with pytest.raises(BadInput, match=r"yields 259 tokens: use 'bpe\(259\)' or less") as error:
    subwords.train(['cat cat'], 1000, tmp_path / 'x')
  assert '\n' not in str(error.value) and not (tmp_path / 'x').exists()
  subwords.train(['cat cat'], 259, tmp_path / 'x')
  assert opened(tmp_path, 'x').encode('cat') != []


# -- what reads responses


@pytest.mark.parametrize('name, chat', [('own', False), ('llama2', False), ('qwen', True)])
def test_samples_are_verified_and_banked_in_any_vocabulary(at, name, chat):
  vocab = opened(at, name, chat)
  problem = Problem('p-1', 'jsonl', 'How many?\n', '12+30 = 42\n#### 42', '42', {})
  said = [*vocab.encode(problem.solution), vocab.stop]
  wrong = [*vocab.encode('no\n#### 41'), vocab.stop]
  tokens = np.full((1, 3, len(said)), 0, np.int32)
  tokens[0, 0] = said
  tokens[0, 1, : len(wrong)] = wrong
  tokens[0, 2] = said[:-1] + said[:1]  # cut off
  zeros = np.zeros(tokens.shape, np.float32)
  lengths = np.array([[len(said), len(wrong), len(said)]])
  stopped = np.array([[True, True, False]])
  drawn = Samples(tokens, zeros, zeros, lengths, stopped, steps=None)
  texts = [[vocab.decode(row) for row in tokens[0]]]
  assert feedback.gold_of([problem], texts, stopped)[0].tolist() == [[1, 0, 0]]
  table = bank.rows('sample-1', model_config('25k', vocab.size), [problem], vocab, drawn, 0, 1.0)
  assert table['response'].tolist()[:2] == [problem.solution, 'no\n#### 41']
  assert table['answer'].fillna('none').tolist() == ['42', '41', 'none']
  assert table['correct'].tolist() == [True, False, False]
  assert set(table['prompt_tokens']) == {len(vocab.prompt(problem.prompt))}
