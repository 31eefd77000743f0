"""Exact estimators against brute force over every subset."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, optimize, special, stats

from analysis import estimators as est


def brute_vote(class_counts, correct, k, abstained):
  """A plurality vote over every subset of k, ties shared equally."""
  votes = [j for j, c in enumerate(class_counts) for _ in range(c)] + [None] * abstained
  scores = []
  for subset in itertools.combinations(votes, k):
    tally = [subset.count(j) for j in range(len(class_counts))]
    top = max(tally, default=0)
    winners = [j for j, t in enumerate(tally) if t == top and top > 0]
    scores.append(sum(correct[j] for j in winners) / len(winners) if winners else 0.0)
  return np.mean(scores)


problems = st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=5)


@pytest.mark.parametrize('n,k', [(1, 1), (5, 2), (7, 7), (8, 4), (10, 3)])
def test_pass_at_k_is_the_share_of_subsets_with_a_correct_sample(n, k):
  for c in range(n + 1):
    samples = [True] * c + [False] * (n - c)
    share = np.mean([any(s) for s in itertools.combinations(samples, k)])
    assert est.pass_at_k(n, c, k) == pytest.approx(share, abs=1e-14)


def test_pass_at_k_draws_without_replacement_and_broadcasts():
  assert est.pass_at_k(8, 1, 4) == pytest.approx(0.5)  # with replacement: 0.414
  assert est.pass_at_k(np.full(3, 100_000), np.array([0, 1, 100_000]), 256) == pytest.approx(
    [0, 0.00256, 1], rel=1e-11
  )
  assert est.pass_at_k(np.array([[4], [8]]), np.array([0, 1, 4]), 2).shape == (2, 3)


@pytest.mark.parametrize('n,c,k', [(4, 1, 0), (4, 1, 5), (4, 5, 2), (4, -1, 2)])
def test_pass_at_k_refuses_what_cannot_be(n, c, k):
  with pytest.raises(ValueError, match='must lie in'):
    est.pass_at_k(n, c, k)


@settings(max_examples=60, deadline=None)
@given(problems, st.integers(0, 3), st.data())
def test_majority_equals_brute_force_over_all_subsets(classes, abstained, data):
  counts, correct = [c for c, _ in classes], [r for _, r in classes]
  n = sum(counts) + abstained
  if n == 0 or n > 13:
    return
  k = data.draw(st.integers(1, n))
  exact = est.majority_at_k(counts, correct, k, abstained)
  assert exact == pytest.approx(brute_vote(counts, correct, k, abstained), abs=1e-11)


@settings(max_examples=60, deadline=None)
@given(
  st.lists(st.tuples(st.integers(0, 40), st.booleans()), min_size=1, max_size=12),
  st.integers(0, 20),
  st.data(),
)
def test_majority_invariants(classes, abstained, data):
  counts, correct = [c for c, _ in classes], [r for _, r in classes]
  n = sum(counts) + abstained
  if n == 0:
    return
  k = data.draw(st.integers(1, n))
  value = est.majority_at_k(counts, correct, k, abstained)
  shuffled = data.draw(st.permutations(classes))
  again = est.majority_at_k([c for c, _ in shuffled], [r for _, r in shuffled], k, abstained)
  assert again == pytest.approx(value, abs=1e-11)
  # Majority of one is pass@1, no vote beats the oracle, and right and wrong share all the votes.
  right = sum(c for c, r in classes if r)
  assert est.majority_at_k(counts, correct, 1, abstained) == pytest.approx(right / n, abs=1e-11)
  assert value <= est.pass_at_k(n, right, k) + 1e-11
  wrong = est.majority_at_k(counts, [not r for r in correct], k, abstained)
  assert value + wrong == pytest.approx(est.pass_at_k(n, n - abstained, k), abs=1e-11)


def test_majority_of_64_problems_is_close_to_simulation():
  rng = np.random.default_rng(0)
  ks, correct = [1, 2, 4, 8, 16, 32], np.arange(20) == 3
  tables = rng.multinomial(120, rng.dirichlet(np.full(20, 0.5), 64)[0], 64)
  curves = est.majority_at_k(tables, np.tile(correct, (64, 1)), ks, abstained=8)
  votes = np.concatenate([np.repeat(np.arange(20), tables[0]), np.full(8, 20)])
  draws = np.array([np.bincount(rng.choice(votes, 16, False), minlength=21) for _ in range(20_000)])
  tied = draws[:, :20] == draws[:, :20].max(axis=1, keepdims=True)
  shares = tied[:, 3] / tied.sum(axis=1)
  assert curves[0, 4] == pytest.approx(shares.mean(), abs=5 * shares.std() / np.sqrt(20_000))


def test_majority_refuses_what_cannot_be():
  with pytest.raises(ValueError, match='must lie in 1'):
    est.majority_at_k([2, 1], [True, False], 4)
  with pytest.raises(ValueError, match='negative'):
    est.majority_at_k([2, -1], [True, False], 1)
  with pytest.raises(ValueError, match='equal lists'):
    est.majority_at_k([2, 1], [True], 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), min_size=1, max_size=8), st.data())
def test_best_of_k_equals_brute_force_with_ties_shared(samples, data):
  k = data.draw(st.integers(1, len(samples)))
  values = []
  for subset in itertools.combinations(samples, k):
    top = max(s for s, _ in subset)
    values.append(np.mean([g for s, g in subset if s == top]))
  scores, gold = zip(*samples, strict=True)
  assert est.best_of_k(scores, gold, k) == pytest.approx(np.mean(values), abs=1e-12)


def test_many_problems_and_ks_at_once_are_those_one_by_one():
  rng = np.random.default_rng(3)
  counts, correct = rng.integers(0, 6, (4, 5)), rng.uniform(size=(4, 5)) < 0.4
  counts[:, 0] += 1
  silent, ks = np.array([0, 3, 1, 2]), [1, 2, 4]
  one = [
    [est.majority_at_k(*row, k, silent[i]) for k in ks]
    for i, row in enumerate(zip(counts, correct, strict=True))
  ]
  assert est.majority_at_k(counts, correct, ks, silent) == pytest.approx(np.array(one))
  scores, gold = rng.integers(0, 4, (2, 3, 7)), rng.uniform(size=(2, 3, 7))
  several = est.best_of_k(scores, gold, ks)
  assert several.shape == (2, 3, 3)
  assert several[1, 2, 1] == pytest.approx(est.best_of_k(scores[1, 2], gold[1, 2], 2))
  c = np.array([0, 3, 8])
  expected = np.stack([est.pass_at_k(8, c, k) for k in ks], axis=-1)
  assert est.pass_at_k(8, c, ks) == pytest.approx(expected)
  assert est.majority_at_k(np.zeros((2, 0)), np.zeros((2, 0)), ks, 5).tolist() == [[0] * 3] * 2


@settings(max_examples=40, deadline=None)
@given(
  st.lists(
    st.tuples(st.integers(-1, 3), st.integers(0, 3)).map(lambda s: (*s, s[0] in (0, 2))),
    min_size=1,
    max_size=9,
  ),
  st.data(),
)
def test_weighted_votes_equal_brute_force_where_subsets_are_few(samples, data):
  k = data.draw(st.integers(1, len(samples)))
  shares = []
  for subset in itertools.combinations(samples, k):
    sums = {}
    for answer, weight, right in subset:
      if answer >= 0:
        sums[answer, right] = sums.get((answer, right), 0) + weight
    winners = [right for (_, right), s in sums.items() if s == max(sums.values())]
    shares.append(np.mean(winners) if winners else 0.0)
  answers, weights, right = (np.array([x]) for x in zip(*samples, strict=True))
  value, error = est.weighted_vote_at_k(answers, right, weights, k)
  assert value[0] == pytest.approx(np.mean(shares), abs=1e-12) and error[0] == 0
  # Equal weights are a plurality vote, and the order of the samples does not matter.
  order = data.draw(st.permutations(range(len(samples))))
  again = est.weighted_vote_at_k(answers[:, order], right[:, order], weights[:, order], k)
  assert again[0] == pytest.approx(value)
  classes = [0, 1, 2, 3]
  tally = [int((answers == c).sum()) for c in classes]
  plain = est.majority_at_k(tally, [True, False, True, False], k, int((answers < 0).sum()))
  equal = est.weighted_vote_at_k(answers, right, np.ones_like(weights), k)[0]
  assert equal[0] == pytest.approx(float(plain), abs=1e-11)


def test_weighted_votes_of_many_subsets_are_within_their_error():
  rng = np.random.default_rng(0)
  answers = rng.integers(-1, 6, (40, 64))
  right, ks = answers == 2, [1, 4, 16, 64]
  value, error = est.weighted_vote_at_k(answers, right, np.ones((40, 64)), ks)
  tally = np.array([np.bincount(a[a >= 0], minlength=6) for a in answers])
  exact = est.majority_at_k(tally, np.arange(6)[None] == 2 + 0 * tally, ks, (answers < 0).sum(1))
  assert value[:, [0, 3]] == pytest.approx(exact[:, [0, 3]]) and (error[:, [0, 3]] == 0).all()
  z = ((value - exact) / np.maximum(error, 1e-12))[:, 1:3]
  assert np.abs(z).max() < 5 and 0.6 < z.std() < 1.5 and (error[:, 1:3] < 0.03).all()
  again = est.weighted_vote_at_k(answers[3:4], right[3:4], np.ones((1, 64)), ks)[0]
  assert (again == value[3:4]).all()  # whatever problems are beside it


@pytest.mark.parametrize('change', [{'k': 5}, {'scores': [[-1.0] * 4]}, {'correct': [[True]]}])
def test_weighted_votes_refuse_what_cannot_be(change):
  given = {'answers': [[0] * 4], 'correct': [[True] * 4], 'scores': [[1.0] * 4], 'k': 2} | change
  with pytest.raises(ValueError):
    est.weighted_vote_at_k(**given)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=12), st.data())
def test_more_samples_never_hurt_an_oracle_and_all_of_them_are_one_choice(samples, data):
  n = len(samples)
  scores, right = (np.array(x) for x in zip(*samples, strict=True))
  passes = est.pass_at_k(n, right.sum(), list(range(1, n + 1)))
  assert (np.diff(passes) >= -1e-12).all() and passes[-1] == pytest.approx(float(right.any()))
  assert est.best_of_k(right, right, list(range(1, n + 1))) == pytest.approx(passes)
  assert est.best_of_k(scores, right, n) == pytest.approx(right[scores == scores.max()].mean())
  order = data.draw(st.permutations(range(n)))
  for k in (1, n // 2, n):
    if k:
      shuffled = est.best_of_k(scores[order], right[order], k)
      assert shuffled == pytest.approx(est.best_of_k(scores, right, k))
  # All n samples are one full vote.
  tally, correct = np.bincount(scores, minlength=6), np.arange(6) % 2 == 0
  top = correct[tally == tally.max()].mean()
  assert est.majority_at_k(tally, correct, n) == pytest.approx(top)


def test_majority_of_512_is_exact():
  rng = np.random.default_rng(5)
  tally = np.concatenate([[140, 120], rng.multinomial(220, np.full(90, 1 / 90))])
  correct = np.arange(92) == 0
  ks = [1, 2, 8, 128, 512]
  value = est.majority_at_k(tally, correct, ks, abstained=32)
  assert value[0] == pytest.approx(140 / 512, abs=1e-12) and value[-1] == 1
  wrong = est.majority_at_k(tally, ~correct, ks, abstained=32)
  assert value + wrong == pytest.approx(est.pass_at_k(512, 480, ks), abs=1e-11)


def test_best_of_k_refuses_what_cannot_be():
  for scores, gold, k in [([1, 2], [1, 2], 3), ([1, 2], [1], 1), ([1, float('nan')], [1, 2], 1)]:
    with pytest.raises(ValueError):
      est.best_of_k(scores, gold, k)


def test_mean_and_stderr_over_problems():
  values = np.random.default_rng(1).normal(3, 2, (400, 2))
  mean, stderr = est.mean_and_stderr(values)
  assert mean == pytest.approx(values.mean(axis=0))
  assert stderr == pytest.approx(values.std(axis=0, ddof=1) / 20)
  assert np.isnan(est.mean_and_stderr(values[:1])[1]).all()


def test_beta_binomial_pmf_and_maximum_likelihood():
  c = np.arange(11)
  assert est.beta_binomial_logpmf(c, 10, 0.7, 2.5) == pytest.approx(
    stats.betabinom.logpmf(c, 10, 0.7, 2.5), abs=1e-12
  )
  counts = stats.betabinom.rvs(64, 0.6, 3.0, size=4000, random_state=0)
  assert est.fit_beta_binomial(counts, 64) == pytest.approx((0.6, 3.0), rel=0.08)
  # No more spread than a binomial: the concentration runs to its bound, the mean stays.
  a, b = est.fit_beta_binomial(np.full(50, 16), 64)
  assert a + b > 1e4 and a / (a + b) == pytest.approx(0.25, rel=1e-3)
  with pytest.raises(ValueError, match='all samples wrong or all right'):
    est.fit_beta_binomial(np.zeros(5), 64)


def test_coverage_from_beta_is_the_integral_over_problems():
  for k in (1, 4, 32):
    integrand = lambda p, k=k: stats.beta.pdf(p, 0.6, 3.0) * (1 - (1 - p) ** k)
    assert est.coverage_from_beta(0.6, 3.0, k) == pytest.approx(
      integrate.quad(integrand, 0, 1)[0], abs=1e-7
    )


@pytest.mark.parametrize('p', [0.02, 0.3, 0.9])
def test_the_variance_of_pass_at_k_is_unbiased(p):
  """Over all counts that n samples of chance p may give, weighted by their probability."""
  n, ks = 12, [1, 2, 5]
  c = np.arange(n + 1)
  weights = stats.binom.pmf(c, n, p)
  values = est.pass_at_k(n, c, ks)
  variance = weights @ values**2 - (weights @ values) ** 2
  found = weights @ est.pass_at_k_variance(n, c, ks)
  np.testing.assert_allclose(found, variance, rtol=1e-7)
  with pytest.raises(ValueError, match='must lie in'):
    est.pass_at_k_variance(n, c, 7)


def test_the_likelihood_region_is_the_profile_likelihood():
  """Its extremes are where a profile over one parameter, maximised over the other by scipy, has
  fallen by half the chi-squared quantile."""
  rng = np.random.default_rng(3)
  n, c = 32, rng.binomial(32, rng.beta(0.4, 1.6, 64))
  a, b = est.beta_binomial_region(c, n)
  best = est.beta_binomial_logpmf(c, n, *est.fit_beta_binomial(c, n)).sum()
  below = stats.chi2.ppf(0.95, 1) / 2
  np.testing.assert_allclose(
    [best - est.beta_binomial_logpmf(c, n, *edge).sum() for edge in zip(a, b)], below, rtol=1e-4
  )
  to_ab = lambda logit, size: (special.expit(logit) * size, special.expit(-logit) * size)

  def fallen(logit):
    """Of the profile of the logit-mean, below its maximum."""
    loss = lambda x: -est.beta_binomial_logpmf(c, n, *to_ab(logit, np.exp(x))).sum()
    return best + optimize.minimize_scalar(loss, bounds=(-4, 6), method='bounded').fun - below

  logits = np.log(a / b)
  centre = np.log(np.divide(*est.fit_beta_binomial(c, n)))
  low = optimize.brentq(fallen, centre - 3, centre)
  high = optimize.brentq(fallen, centre, centre + 3)
  assert logits.min() == pytest.approx(low, abs=0.005)
  assert logits.max() == pytest.approx(high, abs=0.005)
