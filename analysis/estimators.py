"""Estimators of what sampling buys, from n samples of each problem. A leaf: numpy and scipy alone.

pass@k, majority@k and best-of-k are exact averages over all subsets of k of the n samples, drawn
without replacement: nothing is resampled, and never is it 'the first k'. A weighted vote is exact
where the subsets are few, and Monte Carlo over subsets with its error beyond. Take n >= 4k, or the
subsets overlap so much that the average says little: at k = n it is one vote. All are of one or
many problems and of one or many k at once. Everything is float64.
"""

import functools
import itertools
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import optimize, special


def _check_k(k: int | Sequence[int], n: ArrayLike) -> np.ndarray:
  """k as int64 of shape [] or [K]; ValueError where one is outside 1..n."""
  k, fewest = np.asarray(k, np.int64), int(np.min(n))
  if k.ndim > 1 or k.size == 0 or k.min() < 1 or k.max() > fewest:
    raise ValueError(f'k = {k} must lie in 1..{fewest}, the number of samples of a problem')
  return k


def pass_at_k(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> np.ndarray:
  """Probability that a random k of n samples hold a correct one: 1 - C(n-c, k) / C(n, k).

  Unbiased for the chance that k fresh samples hold one (2107.03374). n, c: samples drawn and
  samples correct, of shapes that broadcast; the result has their shape, and an axis [K] behind it
  where k is a list. ValueError where a k is outside 1..n, or c is outside 0..n.
  """
  n, c = np.broadcast_arrays(np.asarray(n, np.float64), np.asarray(c, np.float64))
  k = _check_k(k, n)
  if np.any((c < 0) | (c > n)):
    raise ValueError('c, the number of correct samples, must lie in 0..n')
  log_none, after = np.zeros(n.shape), {}
  wanted = set(k.ravel().tolist())
  with np.errstate(divide='ignore'):
    for i in range(int(k.max())):
      log_none = log_none + np.log1p(-np.minimum(c / (n - i), 1))
      if i + 1 in wanted:
        after[i + 1] = -np.expm1(log_none)
  if k.ndim == 0:
    return after[int(k)]
  return np.stack([after[i] for i in k.tolist()], axis=-1)


def pass_at_k_variance(n: ArrayLike, c: ArrayLike, k: int | Sequence[int]) -> np.ndarray:
  """Unbiased estimate of the variance of `pass_at_k` of each problem, over its samples alone.

  With q_k = C(n-c, k) / C(n, k), unbiased for (1 - p)^k, it is q_k^2 - q_2k. For intervals that
  are conditional on the problems: the mean over P of them has variance sum / P^2. Resampling the
  samples in its place would be biased. Shapes as `pass_at_k`; ValueError where 2k > n. A single
  problem's estimate may be negative; the sum over problems is what counts.
  """
  double = 2 * np.asarray(k)
  return (1 - pass_at_k(n, c, k)) ** 2 - (1 - pass_at_k(n, c, double))


def majority_at_k(
  class_counts: ArrayLike,
  correct: ArrayLike,
  k: int | Sequence[int],
  abstained: ArrayLike = 0,
) -> np.ndarray:
  """Probability that a plurality vote over a random k of n samples picks a correct class.

  class_counts [..., J]: how many samples of a problem gave answer j (0 pads); correct [..., J]:
  whether that answer is right; abstained [...]: samples with no answer, which take up a place in
  the k and vote for nothing. n = sum(class_counts) + abstained. A tie of t classes gives each 1/t;
  a subset in which all abstain scores 0. The result has shape [...], and an axis [K] behind it
  where k is a list. ValueError where a k is outside 1..n or a count is negative.

  Exact in polynomial time. Given its size, a random subset has class sizes distributed as
  independent Binomial(c_j, k/n) given that they sum to k. For a winning size m and a correct
  winner j, each other class is below m or tied at m; marking a tie with y, the weight 1/(t+1) of
  t others tied is the integral of y^t over [0, 1], exact by Gauss-Legendre at few points. So
  each term is one coefficient of a product of polynomials, read off by a discrete Fourier sum.
  Classes too small to reach m are one binomial together, and the sum has only as many points as
  the spread of the binomial total asks for: that makes it fast.
  """
  counts, correct = np.asarray(class_counts, np.int64), np.asarray(correct, bool)
  if counts.shape != correct.shape or counts.ndim < 1:
    raise ValueError(f'class_counts {counts.shape} and correct {correct.shape} must be equal lists')
  silent = np.broadcast_to(np.asarray(abstained, np.int64), counts.shape[:-1])
  if np.any(silent < 0) or np.any(counts < 0):
    raise ValueError('class_counts and abstained must not be negative')
  ks = _check_k(k, counts.sum(axis=-1) + silent)
  lead, memo, values = counts.shape[:-1], {}, []
  if counts.shape[-1] == 0:  # no sample has an answer
    return np.zeros(lead + ks.shape)
  for tally, right, none in zip(
    counts.reshape(-1, counts.shape[-1]), correct.reshape(-1, counts.shape[-1]), silent.ravel()
  ):
    classes = np.stack([tally, right], axis=1)[tally > 0]
    classes = classes[np.lexsort(classes.T)]
    key = classes.tobytes(), int(none)
    if key not in memo:  # equal tallies are computed once
      memo[key] = [_majority(*classes.T, int(none), i) for i in ks.ravel().tolist()]
    values.append(memo[key])
  return np.array(values, np.float64).reshape(lead + ks.shape)


def _majority(counts: np.ndarray, correct: np.ndarray, abstained: int, k: int) -> float:
  """majority_at_k of one problem at one k; the counts are above 0."""
  n = int(counts.sum()) + abstained
  if not correct.any():
    return 0.0
  if correct.all() and not abstained:
    return 1.0
  p, whole = k / n, _binomial_pmf(n, k / n)
  half = _fourier_points(whole, k)
  phase = -2 * np.pi / (2 * half + 1) * np.arange(half + 1)  # coefficients are real: half will do
  distinct, multiplicity = np.unique(counts, return_counts=True)
  powers = np.exp(1j * phase * np.arange(min(distinct[-1], k) + 1)[:, None])
  with np.errstate(divide='ignore'):
    one = np.log(1 - p + p * powers[1])  # of one sample, drawn or not: its class may be any
  small = np.concatenate([[0], np.cumsum(distinct * multiplicity)]) + abstained
  at, below = [], []  # of each distinct count c: [min(c, k) + 1, points], of sizes m, and below m
  for count in distinct:
    terms = _binomial_pmf(int(count), p)[: k + 1, None] * powers[: count + 1]
    at.append(terms)
    below.append(np.cumsum(terms, axis=0) - terms)

  total = np.zeros(half + 1, np.complex128)
  for j, count in enumerate(distinct):
    winners = int(np.sum(correct[counts == count]))
    if not winners:
      continue
    m, y, w = _winning_sizes(int(count), counts, abstained, k, whole)
    reach = np.searchsorted(distinct, m)  # the first count that is large enough to have size m
    with np.errstate(invalid='ignore'):
      product = np.exp(small[reach][:, None] * one)
    product[small[reach] == 0] = 1.0
    product *= at[j][m]
    for i, other in enumerate(distinct):
      rows = slice(0, np.searchsorted(m, other, side='right'))  # of m <= other
      rivals = int(multiplicity[i]) - (i == j)
      if rivals:
        factor = below[i][m[rows]] + y[rows, None] * at[i][m[rows]]
        product[rows] *= _power(factor, rivals)
    total += winners * (w @ product)
  series = total * np.exp(-1j * k * phase)
  coefficient = (2 * series.real.sum() - series[0].real) / (2 * half + 1)
  return float(np.clip(coefficient / whole[k], 0, 1))


def _winning_sizes(count, counts, abstained, k, whole):
  """Rows (m, y, weight): sizes m, ascending, that a winner with `count` samples may have, each with
  the quadrature points of the ties that it may meet."""
  n = int(counts.sum()) + abstained
  m = np.arange(1, min(k, count) + 1)
  m = m[k - m <= n - count]  # or the others are too few to fill the k
  chance = _binomial_pmf(count, k / n)[m] * _binomial_pmf(n - count, k / n)[k - m] / whole[k]
  fits = np.minimum(counts[:, None], m).sum(axis=0) + abstained >= k
  m = m[fits & (chance > 1e-18)]
  ties = np.minimum(k // np.maximum(m, 1), (counts[:, None] >= m).sum(axis=0)) - 1
  rules = [_gauss_legendre(int(t) // 2 + 1) for t in ties]
  empty = [np.zeros(0)]
  return (
    np.repeat(m, [len(x) for x, _ in rules]),
    np.concatenate([x for x, _ in rules] or empty),
    np.concatenate([w for _, w in rules] or empty),
  )


def _fourier_points(whole: np.ndarray, k: int) -> int:
  """h such that 2h + 1 points read coefficient k off exactly: totals that far off have no weight.

  whole: probabilities of the totals 0..n. What is 2h + 1 or more from k adds below 1e-16 of k's.
  """
  distance = np.abs(np.arange(len(whole)) - k)
  beyond = np.cumsum(np.bincount(distance, whole)[::-1])[::-1]  # of distance d or more
  near = int(np.sum(beyond > 1e-16 * whole[k]))  # the first distance that does not matter
  return near // 2


def _power(values: np.ndarray, exponent: int) -> np.ndarray:
  """values ** exponent by squaring; numpy's own takes a complex logarithm of each."""
  result = values if exponent % 2 else None
  while exponent := exponent // 2:
    values = values * values
    if exponent % 2:
      result = values if result is None else result * values
  return result


def _binomial_pmf(n: int, p: float) -> np.ndarray:
  i = np.arange(n + 1)
  return np.exp(_log_choose(n) + special.xlogy(i, p) + special.xlogy(n - i, 1 - p))


@functools.lru_cache(4096)
def _log_choose(n: int) -> np.ndarray:
  """log C(n, i), i = 0..n."""
  i = np.arange(n + 1)
  return special.gammaln(n + 1) - special.gammaln(i + 1) - special.gammaln(n - i + 1)


@functools.lru_cache
def _gauss_legendre(points: int) -> tuple[np.ndarray, np.ndarray]:
  x, w = np.polynomial.legendre.leggauss(points)
  return (x + 1) / 2, w / 2


def best_of_k(scores: ArrayLike, gold: ArrayLike, k: int | Sequence[int]) -> np.ndarray:
  """Expected gold value of the best-scored of a random k of n samples.

  With samples sorted by score, ascending, sum over i of C(i-1, k-1) / C(n, k) * gold_(i); samples
  of equal score share their ranks' weight, as a fair draw among the tied would. scores, gold:
  [..., n]; the result has shape [...], and an axis [K] behind it where k is a list. A score of
  -inf is below all others. ValueError where a k is outside 1..n, the shapes differ, or a score is
  NaN.
  """
  scores, gold = np.asarray(scores, np.float64), np.asarray(gold, np.float64)
  if scores.shape != gold.shape or scores.ndim < 1:
    raise ValueError(f'scores {scores.shape} and gold {gold.shape} must be equal lists')
  if np.isnan(scores).any():
    raise ValueError('a score is NaN: it has no rank')
  n = scores.shape[-1]
  ks = _check_k(k, n)
  order = np.argsort(scores, axis=-1, kind='stable')
  scores, gold = (np.take_along_axis(x, order, axis=-1) for x in (scores, gold))
  new = np.concatenate(
    [np.ones_like(scores[..., :1], bool), scores[..., 1:] > scores[..., :-1]], -1
  )
  last = np.concatenate([new[..., 1:], np.ones_like(new[..., :1])], -1)
  i = np.arange(n)
  start = np.maximum.accumulate(np.where(new, i, 0), axis=-1)  # of a sample's tie
  end = np.minimum.accumulate(np.where(last, i + 1, n)[..., ::-1], axis=-1)[..., ::-1]
  share = gold / (end - start)
  within = _all_within(n, ks)  # [n + 1, K]
  value = np.einsum('...i,...ik->...k', share, within[end] - within[start])
  return value if ks.ndim else value[..., 0]


def _all_within(n: int, ks: np.ndarray) -> np.ndarray:
  """[n + 1, K]: the chance C(i, k) / C(n, k) that a random k of n all lie among the lowest i."""
  i, chance, after = np.arange(n + 1.0), np.ones(n + 1), {}
  for j in range(int(ks.max())):
    chance = chance * np.maximum(i - j, 0) / (n - j)
    after[j + 1] = chance
  return np.stack([after[k] for k in ks.ravel().tolist()], axis=-1)


def weighted_vote_at_k(
  answers: ArrayLike,
  correct: ArrayLike,
  scores: ArrayLike,
  k: int | Sequence[int],
  draws: int = 200,
  exact: int = 2000,
  seed: int = 0,
) -> tuple[np.ndarray, np.ndarray]:
  """(value, standard error) of a vote of a random k of n samples, each with its score as weight.

  answers [P, n]: the class of each sample, -1 where it abstains; correct [P, n]: its verdict;
  scores [P, n]: weights, 0 or more. The class of the greatest sum wins; a tie gives each an equal
  share (to 1e-9 of the sum); a subset in which all abstain scores 0. Both results have shape [P],
  and an axis [K] behind it where k is a list.

  Where C(n, k) <= `exact`, the mean over all subsets, of error 0. Beyond, a Monte Carlo mean:
  `draws` random orders of the samples, each cut into floor(n / k) disjoint subsets; its error is
  that of the mean over orders, given the n samples. The orders are a function of (seed, n) alone.
  ValueError where a k is outside 1..n, shapes differ, or a score is negative or not finite.
  """
  answers, correct = np.asarray(answers, np.int64), np.asarray(correct, np.float64)
  scores = np.asarray(scores, np.float64)
  if not answers.shape == correct.shape == scores.shape or answers.ndim != 2:
    raise ValueError(
      f'answers {answers.shape}, correct {correct.shape} and scores {scores.shape} must be equal'
    )
  if not np.isfinite(scores).all() or np.any(scores < 0):
    raise ValueError('a weight of a vote must be finite and 0 or more')
  n = answers.shape[1]
  ks = _check_k(k, n)
  orders = np.random.default_rng([seed, n]).permuted(np.tile(np.arange(n), (draws, 1)), axis=1)
  value = np.zeros((len(answers), ks.size))
  error = np.zeros_like(value)
  for column, size in enumerate(ks.ravel().tolist()):
    few = special.comb(n, size) <= exact
    if few:
      subsets = np.array(list(itertools.combinations(range(n), size)))
    else:
      subsets = orders[:, : n // size * size].reshape(-1, size)
    for p in range(len(answers)):
      won = _weighted_votes(answers[p], correct[p], scores[p], subsets)
      if few:
        value[p, column] = won.mean()
      else:
        by_order = won.reshape(draws, -1).mean(axis=1)
        value[p, column] = by_order.mean()
        error[p, column] = by_order.std(ddof=1) / np.sqrt(draws)
  return (value, error) if ks.ndim else (value[:, 0], error[:, 0])


def _weighted_votes(answers, correct, scores, subsets):
  """The score of the vote of each subset [R, k] of one problem's samples: [R]."""
  voting = answers >= 0
  if not voting.any():
    return np.zeros(len(subsets))
  _, place = np.unique(answers[voting], return_inverse=True)
  classes = int(place.max()) + 1
  place_of = np.full(len(answers), classes)  # abstentions fall in a class of their own
  place_of[voting] = place
  right = np.zeros(classes)
  np.maximum.at(right, place, correct[voting])
  index = place_of[subsets] + (classes + 1) * np.arange(len(subsets))[:, None]
  tally = lambda weights: np.bincount(index.ravel(), weights, len(subsets) * (classes + 1)).reshape(
    -1, classes + 1
  )[:, :-1]
  sums, there = tally(scores[subsets].ravel()), tally(np.ones(subsets.size)) > 0
  sums = np.where(there, sums, -1.0)
  most = sums.max(axis=1, keepdims=True)
  winners = there & (sums >= most - 1e-9 * np.abs(most))
  return (winners @ right) / np.maximum(winners.sum(axis=1), 1)


def mean_and_stderr(values: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
  """Mean over problems (axis 0) and its standard error, std (ddof 1) / sqrt(P); NaN where P = 1."""
  values = np.asarray(values, np.float64)
  if values.shape[0] < 2:
    return values.mean(axis=0), np.full(values.shape[1:], np.nan)
  return values.mean(axis=0), values.std(axis=0, ddof=1) / np.sqrt(values.shape[0])


def default_ks(n: int) -> list[int]:
  """1, 2, 4, … up to n / 4: beyond, subsets of one bank overlap too much."""
  return [2**i for i in range(20) if 2**i <= max(n // 4, 1)]


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
  solve = lambda x: optimize.minimize(objective, x, jac=True, method='TNC', bounds=bounds)
  a, b = np.exp(min((solve(x) for x in starts), key=lambda fit: fit.fun).x)
  return float(a), float(b)


def beta_binomial_region(
  c: ArrayLike, n: ArrayLike, level: float = 0.95, rays: int = 48
) -> tuple[np.ndarray, np.ndarray]:
  """(alpha, beta) [rays] on the edge of the likelihood region of one beta-binomial over problems.

  The edge is where the log-likelihood is half the chi-squared quantile of 1 below its maximum. So
  the least and the greatest value on it of any function of (alpha, beta), as `coverage_from_beta`,
  are the profile-likelihood interval of that function. Where counts are few it holds the truth
  more often than resampled problems do. ValueError as `fit_beta_binomial`.
  """
  a, b = fit_beta_binomial(c, n)
  pairs, weights = np.unique(np.stack(np.broadcast_arrays(c, n)), axis=1, return_counts=True)

  def rise(point):
    """Of half the deviance over its minimum, at (logit mean, log(alpha + beta)) [..., 2]."""
    total = np.exp(np.clip(point[..., 1], -25, 25))[..., None]
    mean = special.expit(np.clip(point[..., 0], -25, 25))[..., None]
    alpha, beta = np.maximum(mean * total, 1e-9), np.maximum((1 - mean) * total, 1e-9)
    return -np.sum(weights * beta_binomial_logpmf(*pairs, alpha, beta), axis=-1)

  centre, h = np.array([np.log(a / b), np.log(a + b)]), 1e-3
  least = rise(centre)
  moves = h * np.array([[i, j] for i in (-1, 0, 1) for j in (-1, 0, 1)])
  around = rise(centre + moves).reshape(3, 3)
  cross = (around[2, 2] - around[2, 0] - around[0, 2] + around[0, 0]) / 4
  curve = np.array([[around[2, 1] + around[0, 1] - 2 * least, cross], [cross, 0]]) / h**2
  curve[1] = curve[0, 1], (around[1, 2] + around[1, 0] - 2 * least) / h**2
  values, vectors = np.linalg.eigh(curve)
  angle = np.linspace(0, 2 * np.pi, rays, endpoint=False)
  circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
  toward = circle / np.sqrt(np.maximum(values, 1e-2)) @ vectors.T  # a standard error long
  edge = special.chdtri(1, 1 - level) / 2
  reach = np.full(rays, np.sqrt(2 * edge))
  for _ in range(14):  # exact at once where the rise is quadratic
    here = np.maximum(rise(centre + reach[:, None] * toward) - least, 1e-12)
    reach = np.minimum(reach * np.clip(np.sqrt(edge / here), 0.5, 2), 30.0)
  logit, size = (centre + reach[:, None] * toward).T
  size = np.exp(np.clip(size, -25, 25))
  return special.expit(logit) * size, special.expit(-logit) * size


def coverage_from_beta(alpha: ArrayLike, beta: ArrayLike, k: ArrayLike) -> np.ndarray:
  """Mean pass@k over problems of chance Beta(alpha, beta): 1 - B(alpha, beta+k) / B(alpha, beta).

  2502.17578. Arguments broadcast.
  """
  return -np.expm1(special.betaln(alpha, np.add(beta, k)) - special.betaln(alpha, beta))
