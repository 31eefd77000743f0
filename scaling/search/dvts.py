"""Diverse verifier tree search: k / width independent trees, each of which goes on with its best
step alone, continued `width` times. What beam search is to one tree, for many: no tree can crowd
out the others (Beeching, Tunstall, Rush: Scaling test-time compute with open models, 2024).
"""

from scaling.errors import BadInput
from scaling.search import beam, outcome, tree


def search(problems, tools, k: int, *, width: int = 4, aggregate='last', choose='weighted'):
  """k responses out of k / width trees; arguments as for `beam.search`.

  BadInput where width does not divide k (a k below it is one tree of that width).
  """
  outcome.check_budget('dvts', k)
  outcome.check_budget('dvts: width', width)
  width = min(width, k)
  if k % width:
    raise BadInput(f'dvts: a budget of k = {k} is not a multiple of width = {width}')
  allot = lambda scores, places: beam.keep_best(scores, places, width)
  return tree.search('dvts', problems, tools, [width] * (k // width), allot, aggregate, choose)
