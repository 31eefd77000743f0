"""Fits recover what made the points, agree with another optimiser, and know a bound from a KL."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis import overoptimization as over
from analysis.errors import BadInput

PUBLISHED = Path(__file__).parents[2] / '../shared/data/published/overopt_bon_repro_coeffs.csv'
KL = np.array([0.0, 0.3, 1.0, 2.5, 5.0, 9.0, 14.0, 20.0])


@pytest.mark.parametrize('form', over.FORMS)
def test_a_fit_recovers_what_made_the_points(form):
  true = over.Fit(form, 0.8, 0.15, (0, 0), (0, 0), 0, 0, 0)
  found = over.fit(KL, over.curve(true, KL), form)
  assert (found.alpha, found.beta) == (pytest.approx(0.8), pytest.approx(0.15))
  assert found.rmse < 1e-12 and found.points == 7
  best = optimize.minimize_scalar(lambda d: -over.curve(true, d * d), (0.1, 3, 400), method='brent')
  assert found.peak == pytest.approx(best.x, rel=1e-4)


@pytest.mark.parametrize('form', over.FORMS)
def test_noisy_fits_agree_with_scipy_and_cover(form):
  true, rng = over.Fit(form, 0.8, 0.15, (0, 0), (0, 0), 0, 0, 0), np.random.default_rng(0)
  covered = 0
  for i in range(200):
    gain = over.curve(true, KL) + 0.05 * rng.normal(size=len(KL)) * (KL > 0)
    found = over.fit(KL, gain, form)
    covered += found.beta_interval[0] <= 0.15 <= found.beta_interval[1]
    if i == 0:
      f = lambda kl, a, b: over.curve(true._replace(alpha=a, beta=b), kl)
      (alpha, beta), covariance = optimize.curve_fit(f, KL[1:], gain[1:], (0.5, 0.1))
      assert (alpha, beta) == (pytest.approx(found.alpha), pytest.approx(found.beta))
      half = (found.beta_interval[1] - found.beta_interval[0]) / 2
      assert half == pytest.approx(2.5706 * np.sqrt(covariance[1, 1]), rel=1e-3)  # t of 5 degrees
  assert 0.9 < covered / 200 < 0.99


def test_the_form_that_made_the_points_foretells_them_better():
  for form, other in itertools.permutations(over.FORMS):
    gain = over.curve(over.Fit(form, 0.8, 0.15, (0, 0), (0, 0), 0, 0, 0), KL)
    assert over.held_out(KL, gain, form) < 1e-9 < 0.02 < over.held_out(KL, gain, other)


def test_a_gain_that_does_not_fall_has_no_peak():
  assert over.fit(KL, KL + np.sqrt(KL), 'best_of_n').peak == np.inf


@pytest.mark.skipif(not PUBLISHED.exists(), reason='no shared/data/published beside the project')
def test_published_coefficients_come_back_from_their_curves():
  for row in pd.read_csv(PUBLISHED).itertuples():
    d = np.linspace(0, 2.5, 12)
    gain = d * (row.alpha_bon - row.beta_bon * d)
    found = over.fit(d**2, gain, 'best_of_n')
    assert (found.alpha, found.beta) == (
      pytest.approx(row.alpha_bon), pytest.approx(row.beta_bon)
    )  # fmt: skip
    assert found.peak == pytest.approx(row.alpha_bon / (2 * row.beta_bon))


def test_the_formula_of_best_of_n_is_a_bound():
  """Brute force over a policy of five responses: reached without ties in the limit, not with."""
  policy = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
  for scores in (np.arange(5), np.array([0, 0, 0, 1, 1])):
    for n in (2, 4, 8):
      at_most = np.array([policy[scores <= s].sum() for s in scores]) ** n
      below = np.array([policy[scores < s].sum() for s in scores]) ** n
      tied = np.array([policy[scores == s].sum() for s in scores])
      chosen = (at_most - below) * policy / tied
      kl = np.sum(chosen * np.log(chosen / policy))
      assert kl < over.bound(n) - 0.02
  many = 4000
  order = np.arange(1, many + 1) / many
  chosen = order**4 - (order - 1 / many) ** 4
  assert np.sum(chosen * np.log(chosen * many)) == pytest.approx(over.bound(4), abs=1e-2)


def test_bad_input():
  with pytest.raises(BadInput, match='best_of_n, rl'):
    over.fit(KL, KL, 'ppo')
  with pytest.raises(BadInput, match='a KL of -1'):
    over.fit([1, 2, 3, -1], [1, 2, 3, 4], 'rl')
  with pytest.raises(BadInput, match='fewer than 3 points'):
    over.fit([0, 1, 1, 2], [0, 1, 1, 2], 'rl')
  with pytest.raises(BadInput, match='one finite number'):
    over.fit([0, 1, 2, np.nan], [0, 1, 1, 2], 'rl')


def test_a_picture_says_where_the_peak_is(tmp_path):
  gain = over.curve(over.Fit('rl', 0.8, 0.6, (0, 0), (0, 0), 0, 0, 0), KL)
  drawing = over.picture(KL, gain, np.sqrt(KL), [over.fit(KL, gain, form) for form in over.FORMS])
  drawing.figure.savefig(tmp_path / 'a.png')
  assert f'd = {np.exp(0.8 / 0.6 - 1):.2f} (rl)' in drawing.caption
  assert 'No peak' in over.picture(KL, KL, KL, [over.fit(KL, KL, 'best_of_n')]).caption
