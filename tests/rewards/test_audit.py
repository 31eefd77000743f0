"""Rates and intervals against closed forms and simulation; the ceiling against simulation."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from analysis import estimators
from scaling.errors import BadInput
from scaling.rewards import audit


@pytest.mark.parametrize('x, n', [(0, 10), (3, 10), (10, 10), (1, 200), (77, 120)])
def test_one_sample_a_problem_is_clopper_pearson(x, n):
  found = audit.proportion(np.arange(n) < x, np.arange(n))
  exact = stats.binomtest(x, n).proportion_ci(0.95, 'exact')
  assert (found.lower, found.upper) == pytest.approx((exact.low, exact.high), abs=1e-12)
  assert (found.value, found.trials, found.problems) == (x / n, n, n)


def test_samples_that_agree_are_worth_one():
  """Each problem's samples all say the same: as many trials as problems."""
  each = np.arange(40) < 12
  alone = audit.proportion(each, np.arange(40))
  many = audit.proportion(np.repeat(each, 16), np.repeat(np.arange(40), 16))
  assert many.value == alone.value
  assert many.upper - many.lower == pytest.approx(alone.upper - alone.lower, rel=0.1)
  none = audit.proportion(np.zeros(640, bool), np.repeat(np.arange(40), 16))
  assert (none.lower, none.upper) == (0, pytest.approx(stats.binomtest(0, 40).proportion_ci().high))


@pytest.mark.parametrize('spread', [0.3, 3.0])
def test_clustered_intervals_cover(spread):
  """Rates differ between problems, as beta draws: 95 % of intervals have the mean in them."""
  rng, p, P, G = np.random.default_rng(0), 0.15, 30, 8
  which, covered, naive = np.repeat(np.arange(P), G), 0, 0
  for _ in range(400):
    rates = rng.beta(p * spread, (1 - p) * spread, P)
    events = rng.random(P * G) < np.repeat(rates, G)
    found = audit.proportion(events, which)
    covered += found.lower <= p <= found.upper
    blind = stats.binomtest(int(events.sum()), P * G).proportion_ci()
    naive += blind.low <= p <= blind.high
  assert covered / 400 > 0.93
  assert naive < covered - 20  # an interval that does not know of problems is too narrow


def test_no_trial_is_no_rate():
  found = audit.proportion(np.zeros(0, bool), np.zeros(0))
  assert np.isnan(found.value) and (found.lower, found.upper, found.trials) == (0, 1, 0)


def test_an_audit_counts_by_hand():
  gold = [1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
  said = [1, 1, 1, np.nan, 1, 0, 0, 0, np.nan, 1]
  found = audit.audit(gold, said, list('aabbccddee'))
  assert found.false_positive.value == pytest.approx(2 / 6)
  assert found.false_negative.value == pytest.approx(1 / 4)
  assert found.precision.value == pytest.approx(3 / 5)
  assert found.accuracy == pytest.approx(1 - (2 / 6 + 1 / 4) / 2)
  assert (found.right, found.failed, found.samples, found.problems) == (0.4, 0.2, 10, 5)


@pytest.mark.parametrize('p', [0.02, 0.5])
def test_a_threshold_is_found_whatever_the_pass_rate(p):
  """Normal scores a distance of 2 apart: the best balanced accuracy is Phi(1), at the middle."""
  rng, P, G = np.random.default_rng(0), 400, 16
  gold = rng.random(P * G) < p
  scores = rng.normal(size=P * G) + 2 * gold
  problems = np.repeat([f'p{i}' for i in range(P)], G)
  said = audit.thresholded(gold, scores, problems)
  found = audit.audit(gold, said, problems)
  assert found.accuracy == pytest.approx(stats.norm.cdf(1), abs=0.04)
  shifted = audit.thresholded(gold, 0.01 / (1 + np.exp(-scores)), problems)  # by rank alone
  np.testing.assert_array_equal(shifted, said)
  some = scores.copy()
  some[:5] = np.nan
  assert np.isnan(audit.thresholded(gold, some, problems)[:5]).all()


def test_no_sample_judges_its_own_threshold():
  """Scores of pure noise on few samples: chance, not the luck of the best threshold."""
  rng, means = np.random.default_rng(0), []
  for _ in range(300):
    gold, scores = np.tile([True, False], 20), rng.normal(size=40)
    problems = [f'p{i}' for i in range(40)]
    means.append(audit.audit(gold, audit.thresholded(gold, scores, problems), problems).accuracy)
  assert np.mean(means) == pytest.approx(0.5, abs=0.02)
  with pytest.raises(BadInput, match='1 of 4 samples are right, and in half of the problems'):
    audit.thresholded([1, 0, 0, 0], [0.4, 0.1, 0.2, 0.3], ['a', 'b', 'c', 'd'])


def test_bad_input():
  with pytest.raises(BadInput, match='all of the 3 samples are wrong'):
    audit.audit([0, 0, 0], [0, 1, 0], [1, 2, 3])
  with pytest.raises(BadInput, match='all of the 2 samples are right'):
    audit.audit([1, 1], [0, 1], [1, 2])
  with pytest.raises(BadInput, match='not 0, 1 or NaN'):
    audit.audit([0, 1], [0.4, 1], [1, 2])
  with pytest.raises(BadInput, match='2 gold verdicts, 1 others and 2 problems'):
    audit.audit([0, 1], [1], [1, 2])
  with pytest.raises(BadInput, match=r'false_positive is 1\.5'):
    audit.noisy(np.zeros((1, 1)), 1.5, 0, 0, 0, ['p'])


@pytest.mark.parametrize('positive, negative', [(0.1, 0.2), (0.0, 0.3), (0.3, 0.0), (0.5, 0.5)])
def test_best_of_k_with_mistakes_is_what_a_simulation_sees(positive, negative):
  rng, runs = np.random.default_rng(1), 20_000
  rates, ks = np.array([0.02, 0.3, 0.7, 1.0]), [1, 4, 16]
  seen = []
  for k in ks:
    right = rng.random((runs, len(rates), k)) < rates[:, None]
    accepted = np.where(right, rng.random(right.shape) >= negative,
                        rng.random(right.shape) < positive)  # fmt: skip
    order = accepted + rng.random(right.shape) * 0.5  # one of those accepted, or of all
    chosen = np.take_along_axis(right, order.argmax(-1)[..., None], -1)[..., 0]
    seen.append(chosen.mean())
  found = audit.best_of(rates, positive, negative, ks)
  np.testing.assert_allclose(found, seen, atol=0.01)
  assert found[0] == pytest.approx(rates.mean())  # of one sample there is no choice
  until = audit.best_of(rates, positive, negative, [10**6])[0]
  assert audit.ceiling(rates, positive, negative) == pytest.approx(until, abs=1e-9)


def test_the_ceiling_is_a_precision():
  """Sampled until one is accepted (2411.17501): the part of those answers that is right."""
  rng, p, positive, negative = np.random.default_rng(2), 0.1, 0.05, 0.2
  right = rng.random(400_000) < p
  accepted = np.where(
    right, rng.random(right.shape) >= negative, rng.random(right.shape) < positive
  )
  assert audit.ceiling([p], positive, negative) == pytest.approx(right[accepted].mean(), abs=0.01)
  assert audit.ceiling([p], positive, negative) == pytest.approx(0.08 / (0.08 + 0.045))
  assert audit.ceiling([0.0, p], 0, negative) == 0.5  # without false positives: what is ever solved
  assert audit.ceiling([p], positive, 0.9) < audit.ceiling([p], positive, 0)


@given(
  st.lists(st.floats(0, 1), min_size=1, max_size=6),
  st.floats(0, 0.4),
  st.floats(0, 0.4),
  st.integers(1, 40),
)
def test_a_verdict_better_than_chance_never_hurts(rates, positive, negative, k):
  found = audit.best_of(np.array(rates), positive, negative, [k, k + 1])
  assert found[0] >= np.mean(rates) - 1e-9 and found[1] >= found[0] - 1e-9
  assert found[1] <= audit.ceiling(np.array(rates), positive, negative) + 1e-9
  perfect = audit.best_of(np.array(rates), 0.0, 0.0, [k])[0]
  assert perfect == pytest.approx(np.mean(1 - (1 - np.array(rates)) ** k))


def test_verdicts_with_noise_have_the_formula_as_their_expectation():
  rng, P, G = np.random.default_rng(3), 300, 32
  rates = rng.beta(1, 2, P)
  gold = rng.random((P, G)) < rates[:, None]
  said = audit.noisy(gold, 0.1, 0.3, 0, 0, [f'p{i}' for i in range(P)])
  found = audit.audit(gold.ravel(), said.ravel(), np.repeat(np.arange(P), G))
  assert found.false_positive.lower <= 0.1 <= found.false_positive.upper
  assert found.false_negative.lower <= 0.3 <= found.false_negative.upper
  exact = estimators.best_of_k(said, gold, [1, 4, 8]).mean(axis=0)
  formula = audit.best_of(rates, 0.1, 0.3, [1, 4, 8])
  np.testing.assert_allclose(exact, formula, atol=0.02)
  counted = audit.best_of_counts(G, gold.sum(axis=1), 0.1, 0.3, [1, 4, 8])
  np.testing.assert_allclose(exact, counted, atol=0.01)  # the problems are the same: closer


def test_counts_of_a_bank_are_unbiased_where_rates_are_not():
  """Brute force: all subsets and all mistakes of 5 samples; and the mean over banks of the same."""
  n, k, positive, negative = 5, 3, 0.2, 0.4
  for c in range(n + 1):
    gold, total = np.arange(n) < c, 0.0
    for chosen in itertools.combinations(range(n), k):
      for accepted in itertools.product([0, 1], repeat=k):
        right = gold[list(chosen)]
        chance = np.where(right, [1 - negative if a else negative for a in accepted],
                          [positive if a else 1 - positive for a in accepted]).prod()  # fmt: skip
        pick = right[np.array(accepted, bool)] if any(accepted) else right
        total += chance * pick.mean()
    exact = total / math.comb(n, k)
    assert audit.best_of_counts(n, [c], positive, negative, [k])[0] == pytest.approx(exact)
  c = np.random.default_rng(0).binomial(n, 0.3, 200_000)
  truth = audit.best_of([0.3], positive, negative, [k])[0]
  assert audit.best_of_counts(n, c, positive, negative, [k])[0] == pytest.approx(truth, abs=0.003)
  assert audit.best_of(c / n, positive, negative, [k])[0] < truth - 0.01


def test_noise_hangs_on_its_place_alone():
  gold = np.random.default_rng(0).random((6, 8)) < 0.5
  ids = [f'p{i}' for i in range(6)]
  whole = audit.noisy(gold, 0.2, 0.1, 1, 7, ids)
  np.testing.assert_array_equal(
    audit.noisy(gold[2:4, :3], 0.2, 0.1, 1, 7, ids[2:4]), whole[2:4, :3]
  )
  assert (audit.noisy(gold, 0.2, 0.1, 1, 8, ids) != whole).any()
  assert (audit.noisy(gold, 0.2, 0.1, 2, 7, ids) != whole).any()
  np.testing.assert_array_equal(audit.noisy(gold, 0.0, 0.0, 1, 7, ids), gold)
  np.testing.assert_array_equal(audit.noisy(gold, 1.0, 1.0, 1, 7, ids), ~gold)
  more = audit.noisy(gold, 0.4, 0.3, 1, 7, ids)
  assert ((whole != gold) <= (more != gold)).all()


def test_the_gate():
  gold = np.tile([True, False], 50)
  found = audit.audit(gold, np.where(np.arange(100) < 40, gold, True), np.arange(100) // 4)
  assert found.accuracy == pytest.approx(0.7)
  audit.require(found, 0.71, 0.7, 'x')
  audit.require(found, np.nan, 0.7, 'x')
  audit.require(found, 0.5, 0.0, 'x')
  with pytest.raises(BadInput, match=r'^the judge: balanced accuracy 0\.700 on 100 samples') as e:
    audit.require(found, 0.9, 0.8, 'the judge')
  assert 'config.rl.least_accuracy=0' in str(e.value) and '\n' not in str(e.value)
