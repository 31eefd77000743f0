"""What one resource is worth in another, by a law: exchange rates, and iso-performance curves."""

from typing import NamedTuple

import numpy as np

from analysis.errors import BadInput
from analysis.optimum import (
  PER_DECADE,
  VARIABLES,
  Problem,
  axis,
  better,
  beyond,
  bounds_of,
  grid,
  percentiles,
  worst_if_nan,
)


class Exchange(NamedTuple):
  """`factor` times the `give` is worth `ratio` times the `take`; infinite where no `take` is."""

  give: str
  factor: float
  take: str
  ratio: float
  interval: tuple
  extrapolated: bool


def exchange(problem: Problem, at: dict, give: str, factor: float, take: str) -> Exchange:
  """How many times the `take` gives what `factor` times the `give` gives, at the split `at`.

  The ratio m at which the law predicts the same of (take x m) as of (give x factor), all else
  equal; sought from 1e-9 to 1e9, 0 or infinite beyond: a ceiling is not bought off by another
  resource. Interval: of the bootstrap samples.
  """
  for name in (give, take):
    if not at.get(name):
      raise BadInput(f'exchange rate: the split has no {name}; it has {", ".join(at)}')

  def predicted(**changed):
    point = [np.asarray(changed.get(x, at[x]), float) for x in VARIABLES]
    with np.errstate(all='ignore'):
      return worst_if_nan(
        problem,
        problem.predict(
          problem.theta, *(np.broadcast_to(x, (len(problem.theta), 1)) for x in point)
        ),
      )

  wanted = predicted(**{give: at[give] * factor})
  enough = lambda m: better(problem, predicted(**{take: at[take] * m}), wanted, equal=True)
  low = np.full((len(problem.theta), 1), np.log(1e-9))
  high = -low
  never, always = ~enough(np.exp(high)), enough(np.exp(low))
  for _ in range(60):
    middle = (low + high) / 2
    there = enough(np.exp(middle))
    low, high = np.where(there, low, middle), np.where(there, middle, high)
  ratio = np.where(never, np.inf, np.where(always, 0.0, np.exp(high)))[:, 0]
  moved = [at | {give: at[give] * factor}, at | {take: at[take] * ratio[0]}]
  far = any(beyond(problem, [split[x] for x in VARIABLES]) for split in moved)
  spread = percentiles(ratio[1:]) if len(ratio) > 1 else (np.nan, np.nan)
  return Exchange(give, factor, take, float(ratio[0]), tuple(float(x) for x in spread), far)


def iso_performance(problem: Problem, target: float, points: int = 60) -> dict:
  """The trade of training for inference at one predicted quality: the Pareto set.

  Arrays, `points` long at most: query, the cost of one query; train, the least cost of training
  with which a query of that cost, or a cheaper one, reaches `target`, on a fine grid; low, high:
  95 % over bootstrap samples, infinite where these do not reach it. BadInput where the
  estimate never does.
  """
  costs, needed = zip(*(_least_training(problem, region, target) for region in problem.regions))
  query, train = np.concatenate(costs), np.concatenate(needed, axis=1)
  order = np.argsort(query, kind='stable')
  query, train = query[order], np.minimum.accumulate(train[:, order], axis=1)
  if not np.isfinite(train[0]).any():
    raise BadInput(f'{problem.what} = {target:g} is out of reach of the law in the range searched')
  before = np.concatenate([[np.inf], train[0, :-1]])
  at = np.flatnonzero((train[0] < before * (1 - 1e-9)) & np.isfinite(train[0]))
  if len(at) < 2 or not query[at[0]] > 0:
    raise BadInput('no trade of training for inference: say how many tokens a query takes')
  even = np.geomspace(query[at[0]], query[at[-1]], points)
  at = np.unique(at[np.searchsorted(query[at], even * (1 - 1e-9))])
  low, high = (np.full(len(at), np.nan),) * 2
  if len(train) > 1:
    low, high = percentiles(train[1:, at])
  return {'query': query[at], 'train': train[0, at], 'low': low, 'high': high}


def _least_training(problem, region, target):
  """The cost of a query on a fine grid of N, C and k [G], and the least training that reaches
  `target` there [1 + S, G], infinite where none does: by the least D, bisected, and by the best P
  of a grid, once more refined."""
  bases = axis(*bounds_of(problem, region, inside=False)['P'], per_decade=1)
  one = region._replace(P=(bases[0], bases[0]))
  N, P, C, k = grid(problem, one, inside=False, per_decade=8 * PER_DECADE)
  query = np.broadcast_to(problem.costs(N, P, C, k)[2], N.shape)
  P = np.full((len(problem.theta), len(N)), bases[0])
  train = _training(problem, region, target, N, P, C, k)

  def least(P, train, other):
    there = _training(problem, region, target, N, other, C, k)
    return np.where(there < train, other, P), np.minimum(there, train)

  for base in bases[1:]:
    P, train = least(P, train, np.full(P.shape, base))
  for step in (0.5, -0.5, 0.25, -0.25, 0.125, -0.125) if len(bases) > 1 else ():
    P, train = least(P, train, np.clip(P * 10**step, bases[0], bases[-1]))
  return query, train


def _training(problem, region, target, N, P, C, k):
  """The least training that reaches `target` at N, C, k [G] and P [1 + S, G], by bisecting D."""
  token, besides, _ = problem.costs(N, P, C, k)
  least, most = bounds_of(problem, region, inside=False)['D']
  low, high = np.full(P.shape, np.log(least)), np.full(P.shape, np.log(most))

  def enough(log_D):
    with np.errstate(all='ignore'):
      where = (np.broadcast_to(x, P.shape) for x in (N, P, np.exp(log_D), C, k))
      value = problem.predict(problem.theta, *where)
    return better(problem, worst_if_nan(problem, value), target, equal=True)

  there = enough(high)
  for _ in range(40):
    middle = (low + high) / 2
    reached = enough(middle)
    low, high = np.where(reached, low, middle), np.where(reached, middle, high)
  return np.where(there, token * np.exp(high) + besides, np.inf)
