"""Batches of two pools: their share, that each pool is walked whole, and what is read."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import batches, mixing
from scaling.errors import BadInput


@given(st.floats(0, 1), st.integers(1, 12), st.integers(1, 40), st.integers(1, 30))
def test_every_run_has_the_share_and_walks_both_pools(share, rows, first, second):
  """Against the two walks one after another: the k-th row of a pool is the k-th of its walk."""
  steps = 25
  drawn = [mixing.numbers((first, second), 7, step, rows, share) for step in range(steps)]
  for step, one in enumerate(drawn):
    assert len(one) == rows
    assert abs((one < first).sum() - share * rows) < 1 + 1e-6, step
  whole = np.concatenate(drawn)
  mine, its = whole[whole < first], whole[whole >= first] - first
  assert abs(len(mine) - share * rows * steps) < 1 + 1e-6
  assert len(mine) == mixing.taken(steps, rows, share)
  for part, size in ((mine, first), (its, second)):
    if len(part):
      np.testing.assert_array_equal(part, batches.walk(7, 0, len(part), size))


def test_a_whole_share_is_the_plain_walk():
  for step in range(5):
    found = mixing.numbers((9, 0), 3, step, 4, 1.0)
    np.testing.assert_array_equal(found, batches.picked(9, 3, step, 4))
  with pytest.raises(BadInput, match='a pool with nothing in it'):
    mixing.numbers((9, 0), 3, 0, 4, 0.5)


def test_rows_are_read_from_their_own_pool_in_order():
  def pool(start, count):
    numbers = np.arange(start, start + count, dtype=np.uint16)[:, None] + np.zeros(
      (1, 3), np.uint16
    )
    return batches.Packed(numbers, numbers, numbers, numbers % 2 == 0)

  found = mixing.read((pool(100, 4), pool(200, 3)), np.array([5, 0, 6, 3, 4]))
  assert found['tokens'][:, 0].tolist() == [201, 100, 202, 103, 200]
  assert found['tokens'].dtype == np.int32 and found['loss_mask'].dtype == bool
  assert found['loss_mask'][:, 2].tolist() == [False, True, True, False, True]
