"""Estimators of what sampling buys, from n samples of each problem. A leaf: numpy and scipy alone.

pass@k, majority@k and best-of-k are exact averages over all subsets of k of the n samples, drawn
without replacement: nothing is resampled, and never is it 'the first k'. Take n >= 4k, or the
subsets overlap so much that the average says little. Everything is float64.
"""

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special


def _check_k(k: int, n: ArrayLike) -> None:
  fewest = int(np.min(n))
  if not 1 <= k <= fewest:
    raise ValueError(f'k = {k} must lie in 1..{fewest}, the number of samples of a problem')


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int) -> np.ndarray:
  """Probability that a random k of n samples hold a correct one: 1 - C(n-c, k) / C(n, k).

  Unbiased for the chance that k fresh samples hold one (2107.03374). n, c: samples drawn and
  samples correct, of shapes that broadcast; the result has their shape. ValueError where k < 1,
  k > n, or c is outside 0..n.
  """
  n, c = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(c, np.float64))
  _check_k(k, n)
  if np.any((c < 0) | (c > n)):
    raise ValueError('c, the number of correct samples, must lie in 0..n')
  log_none = np.zeros(n.shape)
  with np.errstate(divide='ignore'):
    for i in range(k):
      log_none += np.log1p(-np.minimum(c / (n - i), 1))
  return -np.expm1(log_none)


def majority_at_k(
  class_counts: Sequence[int], correct: Sequence[bool], k: int, abstained: int = 0
) -> float:
  """Probability that a plurality vote over a random k of n samples picks a correct class.

  class_counts[j]: how many samples of one problem gave answer j; correct[j]: whether that answer
  is right; abstained: samples with no answer, which take up a place in the k and vote for
  nothing. n = sum(class_counts) + abstained. A tie of t classes gives each 1/t; a subset in which
  all abstain scores 0. ValueError where k is outside 1..n or a count is negative.

  Exact in polynomial time. Given its size, a random subset has class sizes distributed as
  independent Binomial(c_j, k/n) given that they sum to k. For a winning size m and a correct
  winner j, each other class is below m or tied at m; marking a tie with y, the weight 1/(t+1) of
  t others tied is the integral of y^t over [0, 1], exact by Gauss-Legendre at few points. So
  each term is one coefficient of a product of polynomials, read off by a discrete Fourier sum.
  """
  counts, correct = np.asarray(class_counts, np.int64), np.asarray(correct, bool)
  if counts.shape != correct.shape or counts.ndim != 1:
    raise ValueError(f'class_counts {counts.shape} and correct {correct.shape} must be equal lists')
  if abstained < 0 or np.any(counts < 0):
    raise ValueError('class_counts and abstained must not be negative')
  n = int(counts.sum()) + int(abstained)
  _check_k(k, n)
  counts, correct = counts[counts > 0], correct[counts > 0]
  if not correct.any():
    return 0.0
  if correct.all() and not abstained:
    return 1.0

  # One row for each pair (winning size m, quadrature point y).
  sizes, points, weights = [], [], []
  for m in range(1, min(k, int(counts[correct].max())) + 1):
    ties = min(k // m, len(counts)) - 1
    x, w = _gauss_legendre(ties // 2 + 1)
    sizes += [m] * len(x)
    points += list(x)
    weights += list(w)
  m, y, w = np.array(sizes), np.array(points), np.array(weights)

  # An odd number of roots of unity, more than the degree; half of them, as coefficients are real.
  half = (n + 1) // 2
  roots = np.exp(-2j * np.pi * np.arange(half + 1) / (2 * half + 1))
  powers = roots ** np.arange(n + 1)[:, None]
  distinct, multiplicity = np.unique(counts, return_counts=True)
  factors, tied = [], []
  for count in distinct:
    terms = _binomial_pmf(int(count), k / n)[:, None] * powers[: count + 1]
    below = np.concatenate([np.zeros((1, len(roots))), np.cumsum(terms, axis=0)])
    at = np.concatenate([terms, np.zeros((1, len(roots)))])
    tied.append(at[np.minimum(m, count + 1)])
    factors.append(below[np.minimum(m, count + 1)] + y[:, None] * tied[-1])
  silent = _binomial_pmf(int(abstained), k / n) @ powers[: abstained + 1]

  total = np.zeros(len(roots), np.complex128)
  for j, count in enumerate(distinct):
    winners = int(np.sum(correct & (counts == count)))
    if winners:
      product = winners * tied[j] * factors[j] ** (multiplicity[j] - 1)
      for i in range(len(distinct)):
        if i != j:
          product = product * factors[i] ** multiplicity[i]
      total += w @ product
  series = total * silent * powers[k].conj()
  coefficient = (2 * series.real.sum() - series[0].real) / (2 * half + 1)
  return float(np.clip(coefficient / _binomial_pmf(n, k / n)[k], 0, 1))


def majority_curve(
  class_counts: Sequence[int], correct: Sequence[bool], ks: Sequence[int], abstained: int = 0
) -> np.ndarray:
  """majority_at_k of one problem at each k of ks: shape [len(ks)]."""
  return np.array([majority_at_k(class_counts, correct, k, abstained) for k in ks])


def _binomial_pmf(n: int, p: float) -> np.ndarray:
  i = np.arange(n + 1)
  log_choose = special.gammaln(n + 1) - special.gammaln(i + 1) - special.gammaln(n - i + 1)
  return np.exp(log_choose + special.xlogy(i, p) + special.xlogy(n - i, 1 - p))


@functools.lru_cache
def _gauss_legendre(points: int) -> tuple[np.ndarray, np.ndarray]:
  x, w = np.polynomial.legendre.leggauss(points)
  return (x + 1) / 2, w / 2


def best_of_k(scores: ArrayLike, gold: ArrayLike, k: int) -> float:
  """Expected gold value of the best-scored of a random k of n samples of one problem.

  With samples sorted by score, ascending, sum over i of C(i-1, k-1) / C(n, k) * gold_(i); samples
  of equal score share their ranks' weight, as a fair draw among the tied would. scores, gold:
  shape [n]. ValueError where k is outside 1..n, the shapes differ, or a score is NaN.
  """
  scores, gold = np.asarray(scores, np.float64), np.asarray(gold, np.float64)
  if scores.shape != gold.shape or scores.ndim != 1:
    raise ValueError(f'scores {scores.shape} and gold {gold.shape} must be equal lists')
  if np.isnan(scores).any():
    raise ValueError('a score is NaN: it has no rank')
  n = len(scores)
  _check_k(k, n)
  order = np.argsort(scores, kind='stable')
  _, start, size = np.unique(scores[order], return_index=True, return_counts=True)
  ranks = np.arange(n + 1.0)
  within = np.prod([np.maximum(ranks - j, 0) / (n - j) for j in range(k)], axis=0)
  chance = within[start + size] - within[start]
  return float(chance @ (np.add.reduceat(gold[order], start) / size))


def mean_and_stderr(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Mean over problems (axis 0) and its standard error, std (ddof 1) / sqrt(P); NaN where P = 1."""
  values = np.asarray(values, np.float64)
  if values.shape[0] < 2:
    return values.mean(axis=0), np.full(values.shape[1:], np.nan)
  return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(values.shape[0])


def bootstrap_problems(
  values: ArrayLike, n: int = 1000, seed: int = 0, level: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
  """Percentile interval (low, high) of the mean over problems, from n resamples of the problems.

  values: [P, ...], a value a problem. A problem brings all that was measured on it, so the
  sampling noise comes along and columns stay paired; samples within it are never resampled.
  """
  values = np.asarray(values, np.float64)
  problems = values.shape[0]
  weights = np.random.default_rng(seed).multinomial(problems, np.full(problems, 1 / problems), n)
  means = np.tensordot(weights / problems, values, axes=1)
  low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
  return low, high


def beta_binomial_logpmf(c: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike) -> np.ndarray:
  """log P(c of n correct) where the problem's chance is Beta(a, b): log C(n,c) B(c+a,n-c+b)/B(a,b).

  Arguments broadcast; natural log. Keep a + b below about 1e6, where the terms still cancel well.
  """
  c, n, a, b = (np.asarray(x, np.float64) for x in (c, n, a, b))
  choose = special.gammaln(n + 1) - special.gammaln(c + 1) - special.gammaln(n - c + 1)
  return choose + special.betaln(c + a, n - c + b) - special.betaln(a, b)


def fit_beta_binomial(c: ArrayLike, n: ArrayLike) -> tuple[float, float]:
  """Maximum-likelihood (alpha, beta) of one beta-binomial over problems' counts c of n.

  Each of alpha, beta is kept in [1e-6, 1e6]: counts no more spread than a binomial's run to the
  upper bound, where it is one. ValueError where all samples are wrong or all right: the
  likelihood then has no maximum.
  """
  c, n = np.broadcast_arrays(np.asarray(c, np.float64), np.asarray(n, np.float64))
  if c.sum() == 0 or c.sum() == n.sum():
    raise ValueError('all samples wrong or all right: these counts do not determine a beta')

  def objective(log_ab):
    a, b = np.exp(log_ab)
    shared = special.digamma(a + b) - special.digamma(n + a + b)
    d_a = np.sum(special.digamma(c + a) - special.digamma(a) + shared)
    d_b = np.sum(special.digamma(n - c + b) - special.digamma(b) + shared)
    return -beta_binomial_logpmf(c, n, a, b).sum(), -np.array([a * d_a, b * d_b])

  mean = c.sum() / n.sum()
  bounds = [(np.log(1e-6), np.log(1e6))] * 2
  starts = [np.log([mean * s, (1 - mean) * s]).clip(*bounds[0]) for s in (0.3, 3.0, 100.0)]
  solve = lambda x: optimize.minimize(objective, x, jac=True, method='L-BFGS-B', bounds=bounds)
  a, b = np.exp(min((solve(x) for x in starts), key=lambda fit: fit.fun).x)
  return float(a), float(b)


def coverage_from_beta(alpha: ArrayLike, beta: ArrayLike, k: ArrayLike) -> np.ndarray:
  """Mean pass@k over problems of chance Beta(alpha, beta): 1 - B(alpha, beta+k) / B(alpha, beta).

  2502.17578. Arguments broadcast.
  """
  return -np.expm1(special.betaln(alpha, np.add(beta, k)) - special.betaln(alpha, beta))
