"""The stop automaton against a search in the text, however the text is cut in tokens."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import stops
from scaling.data import subwords
from scaling.data import vocab as vocabs
from scaling.errors import BadInput
from tests.data import toys

TOY = vocabs.Vocab(  # tokens that overlap: a text can be cut in many ways
  'toy', 8, 0, None, None, None, None,
  lambda: [b'', b'a', b'b', b'ab', b'aa', b'bab', 'é'.encode()[:1], 'é'.encode()[1:]],
)  # fmt: skip


def ends_at(table, ids):
  """How many of the tokens there are when the automaton ends, or None."""
  state = 0
  for count, token in enumerate(ids, 1):
    state = table[state, token]
    if state == len(table) - 1:
      return count
  return None


def expected(vocab, ids, strings):
  text = b''
  for count, token in enumerate(ids, 1):
    text += vocab.spelled()[token]
    if token == vocab.stop or any(s.encode() in text for s in strings):
      return count
  return None


@settings(max_examples=200)
@given(
  st.lists(st.text('abé', min_size=1, max_size=5), min_size=1, max_size=3),
  st.lists(st.integers(0, 7), max_size=20),
)
def test_a_stop_string_is_found_however_it_is_cut(strings, ids):
  assert ends_at(stops.table(TOY, [0], strings), ids) == expected(TOY, ids, strings)


def test_a_repeated_prefix_is_not_lost():
  table = stops.table(TOY, [0], ['aab'])
  assert ends_at(table, [1, 1, 1, 2]) == 4  # 'aab' in 'aaab'
  assert ends_at(table, [4, 3]) == 2 and ends_at(table, [1, 2, 4, 1, 3]) == 5
  assert ends_at(table, [4, 0]) == 2 and ends_at(table, [3, 3]) is None


def test_one_token_is_two_states():
  one = stops.table(TOY, [3])
  assert one.shape == (2, 8) and (one[0] == (np.arange(8) == 3)).all() and (one[1] == 1).all()
  assert len(stops.table(TOY, [0], ['abab'])) == 8  # a power of two, for few programs


@pytest.mark.parametrize(
  'strings, words', [(['a', ''], 'empty'), (['ac'], "'ac'"), (['éé\n'], 'spell')]
)
def test_a_string_that_cannot_be_is_refused(strings, words):
  with pytest.raises(BadInput, match=f'config.sample.stop.*{words}'):
    stops.table(TOY, [0], strings)
  with pytest.raises(BadInput, match='token 8 is not among the 8'):
    stops.table(TOY, [8])


@pytest.mark.parametrize('name', ['arithmetic', 'ascii', 'bytes'])
def test_what_characters_spell(name):
  vocab = vocabs.VOCABS[name]
  text = '12+3=15;#7'
  assert b''.join(vocab.spelled()[i] for i in vocab.encode(text)).decode() == text
  assert len(vocab.spelled()) == vocab.size


def test_what_subwords_spell(tmp_path):
  toys.folder(tmp_path / 'bytes', toys.byte_level(), eos_token='<|endoftext|>')
  toys.folder(tmp_path / 'unigram', toys.unigram(), eos_token='</s>')
  subwords.train(toys.TEXTS, 300, tmp_path / 'own')
  for name in ('bytes', 'unigram', 'own'):
    vocab = vocabs.named(str(tmp_path / name))
    spelled = vocab.spelled()
    assert len(spelled) == vocab.size
    for text in [toys.TEXTS[0], 'Natalia 12+30 = 42']:
      ids = vocab.encode(text)
      written = b''.join(spelled[i] for i in ids)
      assert written.decode().strip() == vocab.decode(ids).strip()
    if name != 'unigram':
      assert (
        b''.join(spelled[i] for i in vocab.encode('\u00e9 \U0001f600')).decode()
        == '\u00e9 \U0001f600'
      )
    word = toys.TEXTS[0].split()[1]
    table = stops.table(vocab, [vocab.stop], [word])
    ids = vocab.encode(toys.TEXTS[0])
    assert word in vocab.decode(ids[: ends_at(table, ids)])
    assert word not in vocab.decode(ids[: ends_at(table, ids) - 1])
