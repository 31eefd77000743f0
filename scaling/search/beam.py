"""Step-level beam search with a process reward model (2408.03314, section 5.2).

k responses are kept going. After every step the k / width best by score are kept, and each is
continued `width` times. See tree.py for what becomes of those that end.
"""

from scaling.search import outcome, tree


def keep_best(scores: list[float], places: int, width: int) -> list[int]:
  """`width` places for each of the best, as far as they go; ties go to the first."""
  counts = [0] * len(scores)
  for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
    counts[i] = min(width, places)
    places -= counts[i]
  return counts


def search(problems, tools, k: int, *, width: int = 4, aggregate='last', choose='weighted'):
  """k responses in one tree of width `width`; the answer is chosen among them by their scores.

  aggregate: of the scores of a response's steps, one of analysis.strategies.AGGREGATES; choose: one
  of outcome.CHOICES. BadInput without a scorer, and where k or width is below 1.
  """
  outcome.check_budget('beam', k)
  outcome.check_budget('beam: width', width)
  allot = lambda scores, places: keep_best(scores, places, width)
  return tree.search('beam', problems, tools, [k], allot, aggregate, choose)
