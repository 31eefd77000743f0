"""Reward-balanced search (REBASE, 2408.00724): the places that are left are shared out among the
steps in proportion to softmax(score / balance), so that no step needs to be dropped by rank.
"""

import math

from scaling.errors import BadInput
from scaling.search import outcome, tree


def share(scores: list[float], places: int, balance: float) -> list[int]:
  """`places` split in proportion to softmax(score / balance), in whole numbers: each gets its share
  rounded down, and the largest remainders get what is left (ties: the first)."""
  top = max(scores)
  weights = [math.exp((score - top) / balance) for score in scores]
  shares = [places * weight / sum(weights) for weight in weights]
  counts = [int(x) for x in shares]
  order = sorted(range(len(scores)), key=lambda i: (counts[i] - shares[i], i))
  for i in order[: places - sum(counts)]:
    counts[i] += 1
  return counts


def search(problems, tools, k: int, *, balance=0.1, aggregate='last', choose='weighted'):
  """k responses in one tree; balance: the softmax's temperature, above 0; the other arguments as
  for `beam.search`."""
  outcome.check_budget('rebase', k)
  if balance <= 0:
    raise BadInput(f'rebase: balance is {balance}: it must be more than 0')
  allot = lambda scores, places: share(scores, places, balance)
  return tree.search('rebase', problems, tools, [k], allot, aggregate, choose)
