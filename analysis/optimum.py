"""The search behind `planning`: the best split that each of many budgets buys.

What a split costs is linear in D given N, P, C and k, so D follows from the budget, and the search
is over the rest: a grid even in logs, then ever finer ones round its best. All rows of parameters
(the estimate, its bootstrap samples) go at once.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

VARIABLES = ('N', 'P', 'D', 'C', 'k')
AXES = ('N', 'P', 'C')  # on a grid and refined; k is a whole number, and D what is left buys
PER_DECADE = 4  # points of the first grid
ROUNDS = 20  # of finer ones
FOUND = (*VARIABLES, 'value', 'total', 'affordable')


class Region(NamedTuple):
  """(low, high) of each variable, as measured together; C = (0, 0): without RL; P = (0, 0): without
  pretraining, or with one that does not vary."""

  N: tuple
  D: tuple
  P: tuple = (0.0, 0.0)
  C: tuple = (0.0, 0.0)
  k: tuple = (1.0, 1.0)


class Problem(NamedTuple):
  """What can be bought, what it costs, and what a law says that it gives."""

  predict: Callable  # (theta [R, T], N, P, D, C, k, each [R, G]) -> [R, G]
  theta: np.ndarray  # [1 + S, T]: the estimate, then its bootstrap samples
  costs: Callable  # (N, P, C, k) -> of one token of D, of training besides, of one query
  regions: tuple  # of Region: what was measured
  lower_is_better: bool
  what: str  # is predicted: 'L', 'majority@k'
  queries: float
  unit: str  # of costs
  reach: float  # the search goes so many times beyond the regions
  open: bool  # the bounds of the search mean nothing: an optimum there is none
  within: tuple = ()  # variables that are not searched beyond the regions


def search(
  problem: Problem, theta: np.ndarray, budgets: np.ndarray, inside: bool, rounds: int = ROUNDS
) -> dict:
  """The best split for each row of parameters [R, T] and its own budget [R]; arrays [R].

  VARIABLES, value, total, affordable, and `edge`: [R, variables], at the bounds of the search.
  """
  best = None
  for region in problem.regions:
    found = _search_region(problem, region, theta, budgets, inside, rounds)
    if best is None:
      best = found
      continue
    wins = better(problem, found['value'], best['value']) & found['affordable']
    wins |= found['affordable'] & ~best['affordable']
    best = {
      name: np.where(wins if x.ndim == 1 else wins[:, None], found[name], x)
      for name, x in best.items()
    }
  return best


def cheapest(problem: Problem, inside: bool = False) -> float:
  """The least total of all splits searched."""
  return min(_totals(problem, r, inside)[0] for r in problem.regions)


def dearest(problem, inside):
  return max(_totals(problem, r, inside)[1] for r in problem.regions)


def _totals(problem, region, inside):
  token, besides, query = problem.costs(*grid(problem, region, inside))
  low, high = bounds_of(problem, region, inside)['D']
  fixed = besides + problem.queries * query
  return float(np.min(fixed + token * low)), float(np.max(fixed + token * high))


def bounds_of(problem, region, inside):
  """(low, high) searched of each variable. k is at least 1; what did not vary does not vary."""

  def widen(name, low, high):
    reach = 1.0 if inside or name in problem.within or not high > low else problem.reach
    return low / reach, high * reach

  bounds = {name: widen(name, *getattr(region, name)) for name in VARIABLES}
  return bounds | {'k': (max(bounds['k'][0], 1.0), bounds['k'][1])}


def _counts(low, high):
  """Whole k from low to high, about two an octave."""
  ks = np.unique(np.round(2 ** np.arange(0, np.log2(high) + 0.51, 0.5)))
  ks = np.unique([*ks[(ks > low) & (ks < high)], np.ceil(low), np.floor(high)])
  return ks[ks >= 1]


def axis(low, high, per_decade=PER_DECADE):
  """Values from low to high, even in logs."""
  if not high > low:
    return np.array([low])
  return np.geomspace(low, high, int(np.ceil(per_decade * np.log10(high / low))) + 2)


def grid(problem, region, inside, per_decade=PER_DECADE):
  """N, P, C, k of a grid, even in logs, each [G]."""
  bounds = bounds_of(problem, region, inside)
  axes = [axis(*bounds[x], per_decade) for x in AXES]
  return [x.ravel() for x in np.meshgrid(*axes, _counts(*bounds['k']), indexing='ij')]


def _search_region(problem, region, theta, budgets, inside, rounds):
  bounds = bounds_of(problem, region, inside)
  ks = _counts(*bounds['k'])

  def evaluate(N, P, C, k):
    """FOUND at N, P, C, k [R, G], with the D that the rest of the budget buys."""
    token, besides, query = problem.costs(N, P, C, k)
    fixed = besides + problem.queries * query
    D = (budgets[:, None] - fixed) / token
    affordable = D >= bounds['D'][0] * (1 - 1e-9)
    D = np.clip(D, *bounds['D'])
    with np.errstate(all='ignore'):
      value = problem.predict(theta, N, P, D, C, k)
    value = np.where(affordable, worst_if_nan(problem, value), _worst(problem))
    return N, P, D, C, k, value, fixed + token * D, affordable

  def best_of_each(*where):
    """The best of the last axis of N, P, C, k [R, K, J]: dict of [R, K]."""
    shape = np.broadcast_shapes(*(x.shape for x in where))
    flat = (np.broadcast_to(x, shape).reshape(shape[0], -1) for x in where)
    found = dict(zip(FOUND, (x.reshape(shape) for x in evaluate(*flat))))
    i = np.argmin(_loss(problem, found['value']), axis=2)[:, :, None]
    return {name: np.take_along_axis(x, i, axis=2)[:, :, 0] for name, x in found.items()}

  def refine(best):
    """The AXES of each [R, K] moved by ever smaller steps, k as it is.

    P moves with what N and C leave of the budget: the best of them lies along a narrow ridge.
    """
    for shrink in 0.55 ** np.arange(rounds):
      at = {x: best[x][:, :, None] for x in (*AXES, 'k')}
      near = {x: at[x] * np.exp(shrink * offset) for x, offset in zip(AXES, offsets, strict=True)}
      near = {x: np.clip(near[x], *bounds[x]) for x in AXES} | {'k': at['k']}
      if bounds['P'][1] > bounds['P'][0]:
        near['P'] = np.clip(near['P'] * left(near) / left(at), *bounds['P'])
      best = best_of_each(*near.values())
    return best

  def left(at):
    """The budget [R, 1, 1] less all that is spent but on P and D."""
    _, besides, query = problem.costs(at['N'], 0.0, at['C'], at['k'])
    return np.maximum(budgets[:, None, None] - besides - problem.queries * query, 1e-300)

  def best_k(best):
    """The best of each row: dict of [R]."""
    i = np.argmin(_loss(problem, best['value']), axis=1)
    return {name: x[np.arange(len(theta)), i] for name, x in best.items()}

  steps = np.array([-1.0, -0.5, 0.0, 0.5, 1.0]) * np.log(10) / PER_DECADE
  steps = {'N': steps, 'P': steps[::2], 'C': steps}  # of P fewer, as it moves along the ridge too
  along = [steps[x] if bounds[x][1] > bounds[x][0] else np.array([0.0]) for x in AXES]
  offsets = [x.ravel() for x in np.meshgrid(*along, indexing='ij')]
  points = [x.reshape(-1, len(ks)).T for x in grid(problem, region, inside)]
  rows = (len(theta), *points[0].shape)
  best = best_k(refine(best_of_each(*(np.broadcast_to(x, rows) for x in points))))
  if len(ks) > 1:  # every whole k near the best of the coarse ones, or nine of them
    near = best['k'][:, None] * 2 ** np.linspace(-0.5, 0.5, 9)
    near = np.concatenate([np.clip(np.round(near), ks[0], ks[-1]), best['k'][:, None]], axis=1)
    start = {name: np.repeat(best[name][:, None], near.shape[1], 1) for name in AXES}
    best = best_k(refine(start | {'k': near}))
  edges = []
  for name in VARIABLES:
    low, high = bounds[name]
    at_low = (best[name] <= low * (1 + 1e-6)) & (low > 1 if name == 'k' else low > 0)
    edges.append((at_low | (best[name] >= high * (1 - 1e-6))) & (high > low))
  return best | {'edge': np.stack(edges, axis=1)}


def beyond(problem, split) -> dict:
  """Variable -> how many times outside of what was measured, by the nearest region that has RL,
  and pretraining, where the split has."""
  split = dict(zip(VARIABLES, split))
  found = []
  for region in problem.regions:
    if any((split[x] > 0) != (getattr(region, x)[1] > 0) for x in ('P', 'C')):
      continue
    ratios = {}
    for name in VARIABLES:
      low, high = getattr(region, name)
      if low > 0 and split[name] > 0:
        ratios[name] = max(low / split[name], split[name] / high)
    found.append({name: float(r) for name, r in ratios.items() if r > 1 + 1e-6})
  return min(found, key=lambda far: np.prod([*far.values()])) if found else {'C': np.inf}


def better(problem, a, b, equal=False):
  if equal:
    return a <= b if problem.lower_is_better else a >= b
  return a < b if problem.lower_is_better else a > b


def _worst(problem):
  return np.inf if problem.lower_is_better else -np.inf


def _loss(problem, value):
  return value if problem.lower_is_better else -value


def worst_if_nan(problem, value):
  return np.where(np.isnan(value), _worst(problem), value)


def percentiles(samples):
  """95 % of samples along axis 0; whole samples at the ends, as some may be infinite."""
  low = np.quantile(samples, 0.025, axis=0, method='lower')
  return low, np.quantile(samples, 0.975, axis=0, method='higher')
