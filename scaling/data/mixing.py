"""Two pools of packed rows as one: a batch of it is a function of (seed, step).

Rows are numbered through: those of the first pool, then those of the second.
Axes: B rows of a batch, T tokens of a row.
"""

import math
from collections.abc import Sequence

import numpy as np

from scaling.data import batches
from scaling.data.batches import Packed


def taken(step: int, rows: int, share: float) -> int:
  """How many rows of the first pool the batches before `step` have: a `share` of all, rounded down.

  So every batch has the share of it to within one row, and a run has it to within one row in all.
  """
  return math.floor(share * rows * step + 1e-9)


def numbers(sizes: tuple[int, int], seed: int, step: int, rows: int, share: float) -> np.ndarray:
  """The numbers int64 [B] of the rows in batch `step`: each pool is walked as `batches.picked`
  does.

  sizes: rows of the pools; share: the part of the batch that is of the first one. BadInput where a
  pool that is drawn from has none.
  """
  first, after = taken(step, rows, share), taken(step + 1, rows, share)
  mine = batches.walk(seed, first, after - first, sizes[0]) if after > first else []
  others = rows * step - first
  count = rows - (after - first)
  its = batches.walk(seed, others, count, sizes[1]) if count else np.zeros(0, np.int64)
  return np.concatenate([np.asarray(mine, np.int64), its + sizes[0]])


def read(pools: Sequence[Packed], chosen: np.ndarray) -> dict[str, np.ndarray]:
  """The rows of these numbers: arrays [B, T] of int32 (loss_mask bool)."""
  found, start = {}, 0
  for pool in pools:
    here = (chosen >= start) & (chosen < start + len(pool.tokens))
    part = batches.read(pool, chosen[here] - start)
    for name, array in part.items():
      whole = found.setdefault(name, np.zeros((len(chosen), *array.shape[1:]), array.dtype))
      whole[here] = array
    start += len(pool.tokens)
  return found
