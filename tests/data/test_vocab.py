import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data.vocab import CHARACTERS, PADDING, STOP, UNKNOWN, VOCABS, check, holders, named


@pytest.mark.parametrize('name', ['arithmetic', 'ascii'])
def test_characters_come_back(name):
  vocab, characters = VOCABS[name], CHARACTERS[name]
  assert len(set(characters)) == len(characters)
  ids = vocab.encode(characters)
  assert ids == vocab.prompt(characters) == list(range(3, vocab.size))
  assert vocab.decode(ids) == characters


@given(st.text(st.characters(codec='utf-8')))
def test_bytes_hold_every_text(text):
  vocab = VOCABS['bytes']
  ids = vocab.encode(text)
  assert vocab.missing(text) is None
  assert all(3 <= i < vocab.size for i in ids)
  assert vocab.decode(ids) == text


@pytest.mark.parametrize('name', VOCABS)
def test_decode_ends_at_stop_and_skips_padding(name):
  vocab = VOCABS[name]
  one, two = vocab.encode('1'), vocab.encode('2')
  assert vocab.decode([PADDING, *one, PADDING, *two, STOP, *one]) == '12'
  assert vocab.decode([*one, UNKNOWN]) == '1\ufffd'
  assert vocab.decode([]) == ''


def test_the_small_vocabulary_is_small():
  assert VOCABS['arithmetic'].size <= 48 + 3


def test_missing_names_the_first_character():
  assert VOCABS['arithmetic'].missing('1+q=€') == 'q'
  assert VOCABS['arithmetic'].encode('q') == [UNKNOWN]
  assert VOCABS['ascii'].missing('1+q=€') == '€'
  assert holders('q') == ['ascii', 'bytes']
  assert holders('€') == ['bytes']


def test_names():
  for name, vocab in VOCABS.items():
    assert named(name) is vocab and vocab.name == name
    assert check(name) == vocab.size and vocab.stop == STOP
  assert check('bpe(1024)') == 1024  # before there is any text
