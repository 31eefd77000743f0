import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data import pieces, subwords
from tests.data import toys

PARTS = [
  "'s",
  "'LL",
  ' ',
  '  ',
  '\n',
  '\r\n',
  '\t',
  '\x0b\x0c',
  '\x1c\x1f',
  '\x00',
  '12',
  'the',
  'The',
]
TEXT = st.one_of(
  st.text(st.characters(max_codepoint=127)),
  st.lists(st.sampled_from([*PARTS, '.', '??', '(a', 'é', ' '])).map(''.join),
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('bpe') / 'bpe'
  subwords.train(toys.TEXTS * 3, 300, folder)
  return folder


def test_a_text_is_its_pieces(folder):
  """The ids of the table against those of the tokenizer itself."""
  looked = subwords.load(folder, 'bpe(300)', False)
  tokenizer = subwords.tokenizers.Tokenizer.from_file(str(folder / 'tokenizer.json'))
  tokenizer.encode_special_tokens = True

  @settings(max_examples=300, deadline=None)
  @given(TEXT)
  def check(text):
    assert looked.encode(text) == tokenizer.encode(text, add_special_tokens=False).ids
    assert looked.prompt(text) == looked.encode(text) and looked.missing(text) is None

  check()
  for text in toys.TEXTS:
    assert looked.decode(looked.encode(text)) == text


def test_the_table_is_bounded(folder, monkeypatch):
  monkeypatch.setattr(pieces, 'MOST', 2)
  calls = []
  encode = pieces.looked_up(lambda piece: calls.append(piece) or [ord(piece[0])])
  assert encode('1212') == encode('1212') == [49, 50, 49, 50] and calls == ['1', '2']
  assert encode('3') == [51] and encode('12') == [49, 50] and calls == ['1', '2', '3', '1', '2']


def test_what_was_trained_here(folder):
  written = json.loads((folder / 'tokenizer.json').read_text())
  assert pieces.trained_here(written)
  assert not pieces.trained_here(written | {'normalizer': {'type': 'NFC'}})
  assert not pieces.trained_here(json.loads(toys.byte_level().to_str()))
  assert not pieces.trained_here(json.loads(toys.metaspace().to_str()))
