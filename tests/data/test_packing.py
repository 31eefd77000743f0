import collections
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data import batches, packing
from scaling.data.vocab import STOP

LENGTHS = st.lists(st.integers(1, 24), max_size=60)


def sequences(lengths):
  """Tokens that are distinct over all sequences, each with a stop token at its end."""
  first = np.concatenate([[10], 10 + np.cumsum(lengths)]).astype(int)
  return [np.array([*range(a, b - 1), STOP]) for a, b in itertools.pairwise(first)]


def segments(rows):
  """(tokens, positions, mask) of each segment, in the order of the rows."""
  for tokens, positions, ids, mask in zip(*rows.values(), strict=True):
    for segment in range(1, ids.max() + 1):
      at = ids == segment
      yield tokens[at], positions[at], mask[at]


@given(LENGTHS, st.integers(24, 40), st.booleans(), st.randoms())
def test_every_example_is_whole_and_comes_once(lengths, row_tokens, every_token, random):
  given_ = sequences(lengths)
  prompts = [random.randint(0, n - 1) for n in lengths]
  rows = packing.rows(given_, prompts, row_tokens, every_token)
  assert all(x.shape == (len(rows['tokens']), row_tokens) for x in rows.values())
  found, expected = collections.Counter(), collections.Counter()
  for tokens, positions, mask in segments(rows):
    assert (positions == np.arange(len(tokens))).all()
    found[tuple(tokens.tolist()), tuple(mask.tolist())] += 1
  for tokens, prompt in zip(given_, prompts, strict=True):
    inside = [every_token or i >= prompt for i in range(len(tokens))]
    expected[tuple(tokens.tolist()), (False, *inside[1:])] += 1
  assert found == expected
  padding = rows['segment_ids'] == 0
  assert not rows['tokens'][padding].any() and not rows['loss_mask'][padding].any()
  assert not (padding[:, :-1] & ~padding[:, 1:]).any()  # it comes last
  numbers = [number for row in packing.plan(lengths, row_tokens) for number in row]
  assert sorted(numbers) == list(range(len(lengths)))


@given(LENGTHS, st.integers(24, 40))
def test_nothing_left_fits_into_a_row_that_is_closed(lengths, row_tokens):
  rows = packing.plan(lengths, row_tokens)
  for number, row in enumerate(rows):
    room = row_tokens - sum(lengths[one] for one in row)
    assert all(lengths[one] > room for later in rows[number + 1 :] for one in later)


def fewest(lengths, row_tokens):
  """The fewest rows that hold these lengths: every assignment is tried."""
  best, rooms = len(lengths), []

  def place(i):
    nonlocal best
    if len(rooms) >= best:
      return
    if i == len(lengths):
      best = len(rooms)
      return
    for at in range(len(rooms)):
      if rooms[at] >= lengths[i]:
        rooms[at] -= lengths[i]
        place(i + 1)
        rooms[at] += lengths[i]
    rooms.append(row_tokens - lengths[i])
    place(i + 1)
    rooms.pop()

  place(0)
  return best


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 10), max_size=8))
def test_rows_against_the_fewest_possible(lengths):
  rows, best = len(packing.plan(lengths, 10)), fewest(lengths, 10)
  assert best <= rows <= 2 * best


def test_a_hand_worked_case():
  assert packing.plan([3, 8, 5, 2, 5, 7], 10) == [[0, 2, 3], [1], [4], [5]]
  assert packing.plan([3, 8, 5, 2, 5, 7], 20) == [[0, 1, 3, 5], [2, 4]]
  assert packing.plan([6, 1, 1, 1], 10) == [[0, 1, 2, 3]]
  assert packing.plan([], 10) == []
  mask = packing.rows([np.arange(4), np.arange(3)], [2, 0], 8)['loss_mask']
  assert mask.astype(int).tolist() == [[0, 0, 1, 1, 0, 1, 1, 0]]


def test_examples_of_a_row_are_no_more_alike_than_any():
  """The correlation of two lengths of a row; with the longest first it is near 1."""
  lengths = np.random.default_rng(0).choice([12, 21, 24, 36], 4_000).astype(float)
  away = (lengths - lengths.mean()) / lengths.std()
  rows = [away[row] for row in packing.plan(lengths, 72) if len(row) > 1]
  pairs = [(row.sum() ** 2 - (row**2).sum()) / (len(row) * (len(row) - 1)) for row in rows]
  assert np.mean(pairs) < 0.2
  assert lengths.sum() / 72 / len(packing.plan(lengths, 72)) > 0.95


@pytest.mark.parametrize('lengths', [[3, 11], [0]])
def test_what_does_not_fit_is_refused(lengths):
  with pytest.raises(ValueError, match='rows of 10'):
    packing.plan(lengths, 10)


def test_tokens_are_as_wide_as_the_vocabulary():
  assert packing.rows([np.array([70_000])], [0], 4, vocab_size=70_001)['tokens'].dtype == np.uint32
  assert packing.rows([np.array([65_535])], [0], 4)['tokens'].dtype == np.uint16


def test_a_folder_written_in_windows_reads_as_one_pool(tmp_path, monkeypatch):
  rng = np.random.default_rng(0)
  given_ = sequences(rng.integers(2, 30, 500))
  prompts = [len(sequence) // 2 for sequence in given_]
  whole = packing.write(tmp_path / 'whole', zip(given_, prompts), 64)
  monkeypatch.setattr(packing, 'WINDOW', 1000)
  counts = packing.write(tmp_path / 'sft', zip(given_, prompts), 64)
  rows = batches.packed(tmp_path, 'sft')
  assert counts == {
    'rows': len(rows.tokens),
    'tokens': sum(map(len, given_)),
    'loss_tokens': sum(len(s) - p for s, p in zip(given_, prompts)),
  }
  assert whole['rows'] <= counts['rows'] <= whole['rows'] + len(given_) * 30 // 1000
  of = lambda rows: sorted(tuple(x.tolist()) for x, _, _ in segments(rows._asdict()))
  assert of(rows) == of(batches.packed(tmp_path, 'whole')) == sorted(map(tuple, given_))

  tally = batches.tally(tmp_path, 'sft')
  for row, (tokens, keys, counted) in enumerate(tally):
    ids, mask = rows.segment_ids[row], rows.loss_mask[row]
    lengths = np.bincount(ids)[1:]
    assert (tokens, counted) == (lengths.sum(), mask.sum())
    assert keys == sum(n * (n + 1) // 2 for n in lengths)
  with pytest.raises(ValueError, match='no examples'):
    packing.write(tmp_path / 'none', [], 64)
