"""Intervals over problems and over seeds, of what a study measured.

Other problems of the same kind: by resampling those measured. Other seeds, of which a study has
few: by Student's t. Axes: S seeds, P problems.
"""

import functools

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


@functools.lru_cache
def problem_weights(problems: int, n: int, seed: int) -> np.ndarray:
  """[n, P]: what each problem weighs in n bootstrap resamples of them; every row sums to 1."""
  draws = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), n)
  return draws / problems


def bootstrap_problems(
  values: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile interval (low, high) of the mean over problems, from n resamples of the problems.

  values: [P, ...], a value a problem. A problem brings all that was measured on it, so the
  sampling noise comes along and columns stay paired; samples within it are never resampled. NaN
  where P = 1: one problem says nothing of others.
  """
  values = np.asarray(values, np.float64)
  if len(values) < 2:
    return np.full(values.shape[1:], np.nan), np.full(values.shape[1:], np.nan)
  means = np.tensordot(problem_weights(len(values), n, seed), values, axes=1)
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
  return low, high


def with_seeds(
  value: ArrayLike, low: ArrayLike, high: ArrayLike, by_seed: ArrayLike, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """(low, high) over problems and seeds, from the interval (low, high) of `value` over problems.

  by_seed [..., S]: what each seed alone gives, NaN where it was not measured; only its spread
  counts. The half-widths and t s / sqrt(S) are added in quadrature, with s the seeds' standard
  deviation and t Student's quantile at S - 1 degrees of freedom: 12.7 for two seeds, 4.3 for three.
  (Resampling so few seeds would hold the truth in 60 or 70 % of cases.) One seed adds nothing: the
  interval is then over problems alone.
  """
  value, low, high = (np.asarray(x, np.float64) for x in (value, low, high))
  by_seed = np.asarray(by_seed, np.float64)
  there = ~np.isnan(by_seed)
  count = there.sum(axis=-1)
  mean = np.where(there, by_seed, 0).sum(axis=-1) / np.maximum(count, 1)
  squares = np.where(there, by_seed - mean[..., None], 0) ** 2
  degrees = np.maximum(count - 1, 1)
  s = np.sqrt(squares.sum(axis=-1) / degrees)
  t = special.stdtrit(degrees, (1 + level) / 2)
  seeds = np.where(count > 1, t * s / np.sqrt(np.maximum(count, 1)), 0.0)
  return value - np.hypot(value - low, seeds), value + np.hypot(high - value, seeds)


def interval(
  values: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """(low, high) of the mean of values [..., S, P] over seeds and problems, see `with_seeds`.

  A seed that was not measured is NaN on all problems.
  """
  values = np.asarray(values, np.float64)
  by_problem = _mean_there(values, axis=-2)
  low, high = bootstrap_problems(np.moveaxis(by_problem, -1, 0), n, seed, level)
  return with_seeds(by_problem.mean(axis=-1), low, high, values.mean(axis=-1), level)


def stderr(by_seed: ArrayLike, within: ArrayLike) -> float:
  """Standard error of the mean of by_seed [S], whose own errors over the same problems are `within`
  [S]: 1.96 of it are half of the interval of `with_seeds`."""
  half = 1.96 * np.mean(within)
  return float(with_seeds(0.0, -half, half, by_seed)[1]) / 1.96


def _mean_there(values, axis):
  """The mean of what is not NaN; NaN where all is."""
  there = ~np.isnan(values)
  with np.errstate(invalid='ignore'):
    return np.where(there, values, 0).sum(axis=axis) / there.sum(axis=axis)
