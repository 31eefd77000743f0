"""Beam search, DVTS and REBASE with a scorer that knows, where the chance to solve is known."""

import math

import numpy as np
import pytest

from scaling import compute
from scaling.errors import BadInput
from scaling.search import beam, dvts, many_shot, rebase
from scaling.search.generate import Drawn
from tests.search import toys

K, WIDTH, COUNT = 8, 4, 500
P = 1 / toys.BASE


def chance(draws_of) -> float:
  """That at least one of the last step's draws is right, all before it included.

  draws_of: how many draws go on from the right steps, by how many of those there are; every draw is
  right with probability P. By enumeration over all counts of right steps, depth by depth.
  """
  right = {None: 1.0}
  for _ in range(toys.DIGITS):
    after = {}
    for count, weight in right.items():
      n = K if count is None else draws_of(count)
      for r in range(n + 1):
        mass = weight * math.comb(n, r) * P**r * (1 - P) ** (n - r)
        after[r] = after.get(r, 0.0) + mass
    right = after
  return 1 - right[0]


def share_solved(search, **options) -> tuple[float, float]:
  """(share, its standard error) of COUNT problems, and every response is accounted for."""
  problems = toys.problems(COUNT)
  found = search(problems, toys.tools(problems), K, choose='best', **options)
  assert [one.problem for one in found] == [problem.id for problem in problems]
  assert {one.cost.samples for one in found} == {K}
  values = np.array([one.value for one in found])
  return values.mean(), values.std() / math.sqrt(COUNT)


@pytest.mark.parametrize(
  'search, options, expected',
  [
    (beam.search, dict(width=WIDTH), chance(lambda right: WIDTH * min(right, K // WIDTH))),
    # two trees, each of which goes on from one right step, if it has any
    (
      dvts.search,
      dict(width=WIDTH),
      1 - (1 - (1 - (1 - P) ** WIDTH) ** toys.DIGITS) ** (K // WIDTH),
    ),
    # all places go to the right steps
    (rebase.search, dict(balance=0.01), chance(lambda right: K if right else 0)),
  ],
  ids=['beam', 'dvts', 'rebase'],
)
def test_a_search_by_an_oracle_solves_as_often_as_it_should(search, options, expected):
  value, error = share_solved(search, **options)
  sampling = 1 - (1 - P**toys.DIGITS) ** K  # the best of as many responses drawn at one go
  assert abs(value - expected) < 4 * error
  assert value - 4 * error > 2 * sampling


def test_sampling_alone_does_not():
  problems = toys.problems(COUNT)
  tools = toys.tools(problems, examples=problems)
  found = many_shot.search(problems, tools, 1, samples=1)
  assert abs(np.mean([one.value for one in found]) - P**toys.DIGITS) < 0.03


def test_a_search_without_knowledge_is_no_better_than_sampling():
  """With all scores equal a beam's `best` is any of its responses."""
  problems = toys.problems(COUNT)
  tools = toys.tools(problems)
  blind = lambda wholes, ends: [[0.5] * len(places) for places in ends]
  tools = tools._replace(scorer=tools.scorer._replace(score=blind))
  found = beam.search(problems, tools, K, choose='best')
  assert abs(np.mean([one.value for one in found]) - P**toys.DIGITS) < 0.03


def test_costs_are_those_counted_by_hand():
  """Two places, one of which is kept after each step and continued twice.

  Fed, at contexts from the prompt's p tokens on: '2;' twice, with one pass each at p + 1; then the
  mark of the one that is kept, once for both that follow, and so on; the four tokens of the answer
  take three passes.
  """
  problems = toys.problems(1)
  calls = []
  (one,) = beam.search(problems, toys.tools(problems, calls), 2, width=2)
  assert [n for _, n in calls] == [2, 2, 2, 2]
  p = len(toys.VOCAB.prompt(problems[0].prompt))
  keys = 2 * (p + 1) + (p + 2) + 2 * (p + 3) + (p + 4) + 2 * (p + 5)
  keys += (p + 6) + 2 * ((p + 7) + (p + 8) + (p + 9))
  assert one.cost.samples == 2
  assert one.cost.prefill_tokens == p and one.cost.decode_tokens == 3 * 4 + 2 * 4
  assert one.cost.prefill_flops == compute.forward_flops(toys.CFG, p, p * (p + 1) / 2, 1)
  assert one.cost.decode_flops == compute.forward_flops(toys.CFG, 15, keys, 15)
  assert one.cost.scorer_flops == p + 20  # each token once


def test_a_response_that_has_ended_keeps_its_place():
  """Of three places one ends at once; two are left, and both go to the best of the steps."""
  (problem,) = toys.problems(1)
  asked, said = [], iter(['', '1;', '2;', '#', '#', '7', '8'])

  def draw(prefixes, n, **more):
    asked.append(dict(zip(map(toys.VOCAB.decode, prefixes), n, strict=True)))
    texts = [[next(said) for _ in range(count)] for count in n]
    ids = lambda text: toys.VOCAB.encode(text) + [toys.VOCAB.stop] * (text not in ('1;', '2;', '#'))
    return [[Drawn(ids(text), [], True) for text in some] for some in texts]

  ends_with_2 = lambda whole: float(toys.VOCAB.decode(whole).endswith('2;'))
  score = lambda wholes, ends: [[ends_with_2(whole)] for whole in wholes]
  given = toys.tools([problem])
  given = given._replace(
    generator=given.generator._replace(draw=draw), scorer=given.scorer._replace(score=score)
  )
  (one,) = beam.search([problem], given, 3)
  # a step that is drawn twice is two steps: the first of them takes both places
  assert asked == [{'0=': 3}, {'0=2;': 2}, {'0=2;#': 2}]
  assert one.cost.samples == 3


def test_a_response_that_is_cut_has_no_answer_and_ends():
  problems = toys.problems(20)
  found = beam.search(problems, toys.tools(problems, response_tokens=7), K)
  assert {one.value for one in found} == {0.0}
  assert {one.cost.samples for one in found} == {K}


@pytest.mark.parametrize('places', [1, 5, 8])
def test_all_places_are_shared_out(places):
  rng = np.random.default_rng(places)
  for _ in range(50):
    scores = list(rng.random(rng.integers(1, 9)))
    counts = rebase.share(scores, places, 0.1)
    assert sum(counts) == places and min(counts) >= 0
    order = np.argsort(scores)
    assert (np.diff(np.array(counts)[order]) >= 0).all()  # a better step gets no fewer
    best = beam.keep_best(scores, places, 4)
    assert sum(best) == min(places, 4 * len(scores))
    assert best[int(np.argmax(scores))] == min(4, places)


@pytest.mark.parametrize(
  'search, k, options, words',
  [
    (beam.search, 0, {}, r'beam: a budget of k = 0'),
    (beam.search, 4, dict(choose='first'), r"beam: choose is 'first': it must be one of best, maj"),
    (beam.search, 4, dict(aggregate='sum'), r"beam: aggregate is 'sum': it must be one of last, m"),
    (dvts.search, 6, {}, r'dvts: a budget of k = 6 is not a multiple of width = 4'),
    (rebase.search, 4, dict(balance=0.0), r'rebase: balance is 0.0: it must be more than 0'),
  ],
)
def test_bad_input(search, k, options, words):
  problems = toys.problems(1)
  with pytest.raises(BadInput, match=words):
    search(problems, toys.tools(problems), k, **options)


def test_a_missing_scorer_and_a_row_too_short_are_one_line_each():
  problems = toys.problems(1)
  with pytest.raises(BadInput, match=r'rebase: it needs a scorer: set config\.search\.scorer'):
    rebase.search(problems, toys.tools(problems, scorer=None), 4)
  with pytest.raises(BadInput, match=r'take 14 positions, and config\.data\.row_tokens is 13'):
    beam.search(problems, toys.tools(problems, row_tokens=13), 4)
