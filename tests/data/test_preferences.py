"""Pairs read from files: what is taken for the prompt, and what is refused."""

import gzip
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import preferences
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput

HH = Path(__file__).parents[2] / '../shared/data/hh_rlhf/harmless_base_test.jsonl.gz'
BYTES = VOCABS['bytes']
ASKED = '\n\nHuman: hi\n\nAssistant:'


def written(path, *rows):
  text = ''.join((row if isinstance(row, str) else json.dumps(row)) + '\n' for row in rows)
  path.write_bytes(gzip.compress(text.encode()) if path.suffix == '.gz' else text.encode())
  return str(path)


def dialogue(chosen, rejected, asked=ASKED):
  return {'chosen': asked + chosen, 'rejected': asked + rejected}


@pytest.mark.parametrize('name', ['a.jsonl', 'a.jsonl.gz', 'a.parquet'])
def test_the_prompt_is_what_two_dialogues_share_up_to_the_last_turn(tmp_path, name):
  two = ASKED + ' hello\n\nHuman: and?\n\nAssistant:'
  rows = [
    dialogue(' hello', ' hell'),  # a common beginning of the responses is not the prompt's
    dialogue(' a', ' b', two),
  ]
  if name == 'a.parquet':
    path = str(tmp_path / name)
    pq.write_table(pa.Table.from_pylist(rows), path)
  else:
    path = written(tmp_path / name, *rows, {'prompt': '1+1=', 'chosen': '2', 'rejected': '3'})
  found, expected = preferences.read(path), [(ASKED, ' hello', ' hell'), (two, ' a', ' b')]
  expected += [('1+1=', '2', '3')] if name != 'a.parquet' else []
  assert [pair[:3] for pair in found.pairs] == expected
  assert found.pairs[1].where == f'{path}:2'


def test_equal_and_repeated_pairs_are_left_out_and_counted(tmp_path):
  path = written(
    tmp_path / 'a.jsonl',
    *[dialogue('a', 'b'), dialogue('c', 'c'), dialogue('a', 'b'), dialogue('b', 'a'), ''],
  )
  found = preferences.read(path)
  assert [pair[1:3] for pair in found.pairs] == [('a', 'b'), ('b', 'a')]
  assert (found.equal, found.repeated) == (1, 1)


@pytest.mark.parametrize(
  'rows, message',
  [
    (['{'], r':1: not JSON'),
    ([dialogue('a', 'b'), '[]'], r':2: not a JSON object'),
    ([{'chosen': 'a'}], r":1: the field 'rejected' is missing"),
    ([{'chosen': 'a', 'rejected': ['b']}], r":1: the field 'rejected' is no text"),
    ([{'prompt': '', 'chosen': 'a', 'rejected': 'b'}], r":1: the field 'prompt' is empty"),
    ([{'chosen': 'x', 'rejected': 'y'}], r':1: the two dialogues share no'),
    ([dialogue('a', 'a')] * 2, r': 2 pairs, each of two equal responses'),
    ([], r': no pairs in it'),
  ],
)
def test_what_is_no_pair_is_one_line_with_file_and_line(tmp_path, rows, message):
  path = written(tmp_path / 'a.jsonl', *rows)
  with pytest.raises(BadInput, match=f'^{path}{message}') as error:
    preferences.read(path)
  assert '\n' not in str(error.value)


def test_files_that_cannot_be_read(tmp_path):
  with pytest.raises(BadInput, match='No such file'):
    preferences.read(str(tmp_path / 'none.jsonl'))
  (tmp_path / 'plain.gz').write_text('{}')
  with pytest.raises(BadInput, match='Not a gzipped file'):
    preferences.read(str(tmp_path / 'plain.gz'))
  whole = Path(written(tmp_path / 'cut.jsonl.gz', dialogue('a', 'b')))
  whole.write_bytes(whole.read_bytes()[:-12])
  with pytest.raises(BadInput, match='cut off or damaged'):
    preferences.read(str(whole))


def test_a_fingerprint_is_of_the_content(tmp_path):
  a, b = (written(tmp_path / name, dialogue('a', 'b')) for name in ('a.jsonl', 'b.jsonl'))
  assert preferences.fingerprint(a) == preferences.fingerprint(b)
  c = written(tmp_path / 'c.jsonl', dialogue('a', 'c'))
  assert preferences.fingerprint(a) != preferences.fingerprint(c)


def pairs(*texts):
  return [preferences.Pair(*three, f'f:{i}') for i, three in enumerate(texts, 1)]


def test_tokens_are_prompt_response_and_stop():
  found = preferences.tokenise(pairs(('p', 'ab', 'c'), ('qr', '', 'd')), BYTES, 8)
  ids = lambda text: [3 + byte for byte in text.encode()]
  assert [s.tolist() for s in found.sequences] == [
    [*ids('pab'), 1], [*ids('pc'), 1], [*ids('qr'), 1], [*ids('qrd'), 1],
  ]  # fmt: skip
  assert found.starts.tolist() == [1, 1, 2, 2] and found.rows.tolist() == [[0, 1], [2, 3]]
  assert found.prompts.tolist() == ['p', 'qr'] and found.dropped == 0


def test_pairs_too_long_for_a_row_and_characters_that_are_missing():
  long = pairs(('p', 'x' * 20, 'c'), ('p', 'a', 'b'))
  with pytest.raises(BadInput, match=r'^f:1: 22 tokens, and config.data.row_tokens is 8'):
    preferences.tokenise(long, BYTES, 8)
  found = preferences.tokenise(long, BYTES, 8, 'drop')
  assert found.dropped == 1 and found.prompts.tolist() == ['p'] and len(found.sequences) == 2
  with pytest.raises(BadInput, match=r'^f: all 1 pairs are longer'):
    preferences.tokenise(long[:1], BYTES, 8, 'drop')
  with pytest.raises(BadInput, match=r"^f:1: has 'é', and config.data.vocab=ascii has not"):
    preferences.tokenise(pairs(('p', 'é', 'c')), VOCABS['ascii'], 8)
  lone = pairs(('p', '\udc80', '\udc81'))  # halves of surrogate pairs, both written as '?'
  with pytest.raises(BadInput, match=r'^f:1: the two responses are the same tokens'):
    preferences.tokenise(lone, BYTES, 8)


@given(st.text(), st.text())
def test_whatever_two_responses_are_the_parts_make_the_dialogues(chosen, rejected):
  pair = preferences._split(ASKED + chosen, ASKED + rejected, 'f:1')
  assert pair.prompt + pair.chosen == ASKED + chosen
  assert pair.prompt + pair.rejected == ASKED + rejected
  assert pair.prompt.endswith(preferences.TURN)
  assert not (preferences.TURN in pair.chosen and pair.rejected.startswith(
    pair.chosen.partition(preferences.TURN)[0] + preferences.TURN
  ))  # fmt: skip


@pytest.mark.skipif(not HH.exists(), reason='../shared/data/hh_rlhf is not there')
def test_every_pair_of_hh_rlhf_splits_at_its_last_turn():
  found = preferences.read(str(HH))
  assert (len(found.pairs), found.equal, found.repeated) == (2312, 0, 0)
  for pair in found.pairs:
    assert pair.prompt.startswith('\n\nHuman:') and pair.prompt.endswith('\n\nAssistant:')
    assert '\n\nHuman:' not in pair.chosen + pair.rejected
  some = preferences.tokenise(found.pairs, BYTES, 512, 'drop')
  lengths = np.array([len(s) for s in some.sequences])
  assert len(some.prompts) + some.dropped == 2312 and lengths.max() <= 512
  text = BYTES.decode(some.sequences[0])
  assert text == found.pairs[[p.prompt for p in found.pairs].index(some.prompts[0])].prompt + (
    BYTES.decode(some.sequences[0][some.starts[0] :])
  )
