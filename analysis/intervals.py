"""How far a fit's parameters are determined: bootstrap, profile, and directions that are flat."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from analysis.errors import BadInput
from analysis.minimise import Problem, approach, expand, losses, minimise, parameters, residuals

LEVEL = 0.95
WIDEST = 1e3  # ratio of an interval's ends beyond which a positive parameter is not identified
BLOCK = 1 << 23  # numbers of the weights that are held at a time
PILOT = 200  # resamples from which the others start
REACH = 2.0  # of theta on a log scale: farther from a start, the objective may be flat
METHODS = ('pairs', 'residuals')


class Optimum(NamedTuple):
  """A fit's problem, and where its minimum is."""

  problem: Problem
  theta: np.ndarray  # [P]
  others: np.ndarray  # [A, P]: other minima, not much worse
  free: np.ndarray  # bool [P]
  cost: float


def bootstrap(optimum, labels, which, n: int, seed: int, clusters, method: str) -> np.ndarray:
  """Parameters [n, P] of refits to resamples: of rows, of whole clusters, or of residuals.

  labels [rows] of the clusters, or None; which [rows]: the distinct point that a row is.
  """
  if method not in METHODS:
    raise BadInput(f'resample {method!r}: one of {", ".join(METHODS)}')
  problem, rows = optimum.problem, len(which)
  if method == 'residuals' and (problem.loss.counts or labels is not None):
    raise BadInput("resample 'residuals' is of rows one by one and not of counts; use 'pairs'")
  rng, thetas = np.random.default_rng(seed), []
  block = max(1, BLOCK // rows)
  for first in range(0, n, block):
    size = min(block, n - first)
    if method == 'pairs':
      here, weights = problem, _weights(rng, labels, which, int(optimum.free.sum()), size, clusters)
    else:
      here, weights = _renoised(rng, optimum, size), np.ones((size, rows))
    thetas.append(_refit(optimum, here, weights))
  return parameters(problem, np.concatenate(thetas))


def _refit(optimum, problem, weights) -> np.ndarray:
  """theta [b, P] of the minima of resamples, of weights [b, n].

  The first PILOT start from the optimum and from the other minima, and the best is kept. The others
  start from the best, for them, of these and of what was found from these; then all do once more
  from what was found for others, where that is better. (Where resamples are of targets [b, n], it
  costs too much to try one on another, and all are as the first.)
  """
  deltas, n = approach(optimum.problem, optimum.theta), len(weights)
  starts = np.concatenate([optimum.theta[None], optimum.others])
  first = n if problem.target.ndim == 2 else min(n, PILOT)
  run = lambda begin, some: minimise(
    problem, begin, weights[some], optimum.free, deltas, 1e-6, tolerance=1e-9
  )[:2]
  found = [run(np.tile(start, (first, 1)), slice(first)) for start in starts]
  pick = np.argmin([cost for _, cost in found], axis=0)
  theta = np.array([x for x, _ in found])[pick, np.arange(first)]
  if first == n:
    return theta
  cost = np.min([cost for _, cost in found], axis=0)

  def best_of(candidates, some):
    sums = weights[some] @ losses(problem, candidates).T
    return candidates[np.argmin(sums, axis=1)], np.min(sums, axis=1)

  far = np.abs(theta[:, None] - starts)[..., problem.logged].max(axis=2, initial=0).min(axis=1)
  begin, _ = best_of(np.concatenate([starts, theta[far <= REACH]]), slice(first, None))
  more = run(begin, slice(first, None))
  theta, cost = np.concatenate([theta, more[0]]), np.concatenate([cost, more[1]])
  begin, lower = best_of(theta[:: max(1, n // 1000)], slice(None))
  again = np.flatnonzero(lower < cost * (1 - 1e-9))
  if len(again):
    more = run(begin[again], again)
    better = more[1] < cost[again]
    theta[again[better]] = more[0][better]
  return theta


def _weights(rng, labels, which, needed, n, clusters) -> np.ndarray:
  """[n, rows]: how often each row, or its whole cluster, was drawn with replacement.

  A resample with fewer than `needed` distinct points is drawn again.
  """
  groups = np.arange(len(which)) if labels is None else pd.factorize(labels)[0]
  count = groups.max() + 1
  if count < 2:
    raise BadInput(f'clusters: column {clusters!r} has one value, nothing to resample; use None')
  order, found = np.argsort(which, kind='stable'), []
  begin = np.flatnonzero(np.diff(which[order], prepend=-1))
  for _ in range(200):
    weights = rng.multinomial(count, np.full(count, 1 / count), n)[:, groups].astype(np.float64)
    distinct = np.sum(np.add.reduceat(weights[:, order], begin, axis=1) > 0, axis=1)
    found.extend(weights[distinct >= needed])
    if len(found) >= n:
      return np.array(found[:n])
  raise BadInput('bootstrap: resamples hold fewer distinct points than parameters; add points')


def _renoised(rng, optimum, n) -> Problem:
  """The problem with outputs [n, rows]: the fit plus its centred residuals, drawn anew."""
  problem = optimum.problem
  values = parameters(problem, optimum.theta)
  f = problem.function(*values, *problem.inputs)
  mean = np.broadcast_to(np.log(f) if problem.loss.log else f, problem.target.shape)
  r = (problem.target - mean) / problem.scale
  rows = len(r)
  r = (r - r.mean()) * np.sqrt(rows / max(rows - int(optimum.free.sum()), 1))
  drawn = r[rng.integers(0, rows, (n, rows))]
  return problem._replace(target=mean + drawn * problem.scale)


def threshold(optimum: Optimum, level: float = LEVEL) -> float:
  """How far the objective rises over its minimum at the end of a profile interval.

  For counts, half the chi-squared quantile (a likelihood ratio). Else the F quantile of 1 and n - P
  times the residual variance; for Huber's loss that of M-estimators, mean(psi^2) / (2 mean(psi')).
  """
  problem, n = optimum.problem, len(optimum.problem.scale)
  left = max(n - int(optimum.free.sum()), 1)
  if problem.loss.counts:
    return float(stats.chi2.ppf(level, 1) / 2)
  quantile = float(stats.f.ppf(level, 1, left))
  delta = problem.loss.delta
  if np.isinf(delta):
    return quantile * optimum.cost / left
  size, near = _sizes(optimum)
  inside = max(np.mean(size <= near), 1 / n) * delta / near
  return quantile * float(np.mean(np.minimum(size, delta) ** 2) / (2 * inside)) * n / left


def _sizes(optimum):
  """Sizes of the residuals, and the size up to which they are enough to estimate psi' from."""
  problem = optimum.problem
  f = problem.function(*parameters(problem, optimum.theta), *problem.inputs)
  size = np.abs(residuals(problem, f, problem.target))
  return size, max(problem.loss.delta, float(np.median(size)) * len(problem.scale) ** -0.2)


def _curvature(optimum) -> tuple[np.ndarray, np.ndarray]:
  """(hessian, major) [P, P] of the objective at its minimum.

  Of Huber's loss from the rows that `threshold` counts as inside: delta may leave none.
  """
  problem, n = optimum.problem, len(optimum.problem.scale)
  delta = near = problem.loss.delta
  if np.isfinite(delta):
    _, near = _sizes(optimum)
  state = expand(problem, optimum.theta[None], np.ones((1, n)), problem.target, near)
  share = delta / near if np.isfinite(delta) else 1.0
  return np.nan_to_num(state.hessian[0]) * share, np.nan_to_num(state.major[0]) * share


def flat_directions(optimum: Optimum) -> list[tuple[int, ...]]:
  """Sets of parameters that may move together, far, with the objective as good as unchanged.

  Far is an e^3.5-fold change (together a ratio of 1e3 of the ends) of parameters on a log scale;
  of others, a direction in which the objective is exactly flat.
  """
  problem, theta, free = optimum.problem, optimum.theta, optimum.free
  at_bound = (theta <= problem.lower) | (theta >= problem.upper)
  index = np.flatnonzero(free & ~at_bound)
  if not len(index):
    return []
  hessian, major = (matrix[np.ix_(index, index)] for matrix in _curvature(optimum))
  size = np.sqrt(np.maximum(np.diag(major), 0))
  blind = size <= 1e-12 * size.max()
  found = [(int(i),) for i in index[blind]]
  if blind.all():
    return found
  index, size, hessian = index[~blind], size[~blind], hessian[np.ix_(~blind, ~blind)]
  scale = np.where(problem.logged[index], np.log(WIDEST) / 2, np.inf)
  values, vectors = np.linalg.eigh(hessian / size[:, None] / size[None])
  rise = threshold(optimum)
  for value, vector in zip(values, vectors.T):
    direction = vector / size  # in theta
    reach = np.min(scale / np.maximum(np.abs(direction), 1e-300))
    if value < 1e-9 or (np.isfinite(reach) and value * reach**2 / 2 < rise):
      moved = np.where(np.isfinite(scale), np.abs(direction), 0.0)
      share = np.where(moved > 0, moved / max(moved.max(), 1e-300), np.abs(vector))
      found.append(tuple(int(i) for i in index[share > 0.2]))
  return found


def profile(optimum: Optimum, level: float = LEVEL) -> np.ndarray:
  """[P, 2]: the ends of each parameter's profile interval; a bound where no end is before it.

  With the parameter held and all others fitted, the objective rises by `threshold` at an end. All
  parameters and both sides are searched at once.
  """
  problem, best, free = optimum.problem, optimum.theta, optimum.free
  rise, n = threshold(optimum, level), len(problem.scale)
  index = np.flatnonzero(free)
  spread = np.full(len(best), 0.1)
  curvature = np.linalg.pinv(_curvature(optimum)[0][np.ix_(index, index)], hermitian=True)
  step = np.sqrt(2 * rise * np.abs(np.diag(curvature)))
  spread[index] = np.where(np.isfinite(step) & (step > 0), np.minimum(step, 2.0), 0.1)
  which = np.repeat(index, 2)
  side = np.tile([-1.0, 1.0], len(index))
  rows = np.arange(len(which))
  bound = np.where(side < 0, problem.lower[which], problem.upper[which])
  held = free & ~(np.arange(len(best)) == which[:, None])
  near, near_rise = best[which].copy(), np.zeros(len(which))
  far, far_rise = np.full(len(which), np.nan), np.full(len(which), np.nan)
  warm, reach = np.tile(best, (len(which), 1)), spread[which]
  ends, open_ = np.full(len(which), np.nan), np.ones(len(which), bool)
  for _ in range(60):
    if not open_.any():
      break
    bracketed = ~np.isnan(far)
    with np.errstate(all='ignore'):
      a, b, r = np.sqrt(near_rise), np.sqrt(np.minimum(far_rise, 1e6 * rise)), np.sqrt(rise)
      share = np.clip((r - a) / (b - a), 0.1, 0.9)
    inward = near + np.nan_to_num(share, nan=0.5) * (far - near)
    trial = np.where(bracketed, inward, near + side * reach)
    trial = np.where(side < 0, np.maximum(trial, bound), np.minimum(trial, bound))
    at = rows[open_]
    begin = warm[at].copy()
    begin[np.arange(len(at)), which[at]] = trial[at]
    theta, cost, _ = minimise(problem, begin, np.ones((len(at), n)), held[at])
    up = np.maximum(cost - optimum.cost, 0)
    for i, t, rose in zip(at, theta, up):
      if rose < rise:
        near[i], near_rise[i], warm[i] = trial[i], rose, t
        reach[i] *= 1.7
        if trial[i] == bound[i]:
          ends[i], open_[i] = bound[i], False
      else:
        far[i], far_rise[i] = trial[i], rose
      width = abs(far[i] - near[i])
      if abs(np.sqrt(rose) - np.sqrt(rise)) < 1e-3 * np.sqrt(rise) or width < 1e-5 * (
        spread[which[i]] + 1e-300
      ):
        ends[i], open_[i] = trial[i], False
  ends = np.where(np.isnan(ends), near, ends)
  result = np.stack([best, best], axis=1)
  result[index] = ends.reshape(-1, 2)
  return parameters(problem, result.T).T


def log_likelihood(optimum: Optimum) -> float:
  """The greatest log-likelihood of the data at the optimum, by which AICc compares laws.

  Of counts, binomial. Else residuals have the density exp(-loss / s) / Z(s), s fitted too: a
  Gaussian for squares, and for Huber's loss one with exponential tails.
  """
  problem = optimum.problem
  n, cost, delta = len(problem.scale), max(optimum.cost, 1e-300), problem.loss.delta
  jacobian = float(np.sum(np.log(problem.scale)))
  if problem.loss.counts:
    trials, c = problem.scale, problem.target
    f = problem.function(*parameters(problem, optimum.theta), *problem.inputs)
    return float(np.sum(stats.binom.logpmf(c, trials, f)))
  if np.isinf(delta):
    return -n / 2 * (np.log(2 * np.pi * cost / n) + 1) - jacobian
  s = np.geomspace(cost / n * 1e-2, cost / n * 1e2, 4001)
  middle = np.sqrt(2 * np.pi * s) * (2 * stats.norm.cdf(delta / np.sqrt(s)) - 1)
  tails = 2 * s / delta * np.exp(-(delta**2) / (2 * s))
  return float(np.max(-cost / s - n * np.log(middle + tails))) - jacobian
