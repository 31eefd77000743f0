"""Intervals over problems and seeds: against known ones, and how often they hold the truth."""

import numpy as np
import pytest
from scipy import stats

from analysis import bands


def test_problems_resampled_give_the_interval_of_the_normal_law():
  values = np.random.default_rng(1).normal(3, 2, (400, 2))
  mean, stderr = values.mean(axis=0), values.std(axis=0, ddof=1) / 20
  low, high = bands.bootstrap_problems(values, n=4000, seed=0)
  assert low == pytest.approx(mean - 1.96 * stderr, abs=0.02)
  assert high == pytest.approx(mean + 1.96 * stderr, abs=0.02)


def test_one_problem_says_nothing_of_others():
  assert np.isnan(bands.bootstrap_problems(np.ones((1, 3)))).all()
  assert np.isnan(bands.interval(np.ones((4, 2, 1)))).all()


def test_seeds_that_alone_differ_give_students_interval():
  by_seed = np.array([0.1, 0.4, 0.25])
  low, high = bands.interval(np.repeat(by_seed[:, None], 50, axis=1))  # all problems alike
  known = stats.t.interval(0.95, 2, loc=by_seed.mean(), scale=stats.sem(by_seed))
  assert (low, high) == pytest.approx(known)


def test_one_seed_and_seeds_that_agree_add_nothing():
  one = np.random.default_rng(0).random((1, 40))
  alone = bands.bootstrap_problems(one[0])
  assert bands.interval(one) == pytest.approx(alone)
  assert bands.interval(np.repeat(one, 3, axis=0)) == pytest.approx(alone)


def test_a_seed_that_was_not_measured_does_not_count():
  values = np.random.default_rng(0).random((3, 3, 40))  # [R, S, P]
  with_gap = values.copy()
  with_gap[1, 2] = np.nan
  low, high = bands.interval(with_gap)
  whole = bands.interval(values)
  two = bands.interval(values[1, :2])
  assert (low[1], high[1]) == pytest.approx(two)
  assert (low[0], high[2]) == pytest.approx((whole[0][0], whole[1][2]))


@pytest.mark.parametrize('seeds', [2, 3, 5])
@pytest.mark.parametrize('between', [0.0, 0.2, 2.0])  # of the seeds' spread to the problems'
def test_the_interval_holds_the_truth(seeds, between):
  rng, trials, problems = np.random.default_rng(seeds), 300, 64
  common = rng.normal(0, 1, (trials, 1, problems))
  own = rng.normal(0, 0.5, (trials, seeds, problems))  # a problem's, for one seed
  by_seed = rng.normal(0, between, (trials, seeds, 1))
  low, high = bands.interval(common + own + by_seed, n=400)
  held = np.mean((low <= 0) & (0 <= high))
  assert held > 0.91  # 95 % less 3 standard errors of 300 trials
