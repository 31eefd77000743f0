"""Fits recover what made the points and agree with another optimiser."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from analysis import overoptimization as over
from analysis.errors import BadInput
from analysis.fit import fit

PUBLISHED = Path(__file__).parents[2] / '../shared/data/published/overopt_bon_repro_coeffs.csv'
KL = np.array([0.0, 0.3, 1.0, 2.5, 5.0, 9.0, 14.0, 20.0])
TRUE = over.Fit(0.8, 0.15, (0, 0), (0, 0), 0, 0, 0)


def test_a_fit_recovers_what_made_the_points():
  found = over.fit(KL, over.curve(TRUE, KL))
  assert (found.alpha, found.beta) == (pytest.approx(0.8), pytest.approx(0.15))
  assert found.rmse < 1e-12 and found.points == 7
  best = optimize.minimize_scalar(lambda d: -over.curve(TRUE, d * d), (0.1, 3, 400), method='brent')
  assert found.peak == pytest.approx(best.x, rel=1e-4)


def test_noisy_fits_agree_with_scipy_and_cover():
  rng, covered = np.random.default_rng(0), 0
  for i in range(200):
    gain = over.curve(TRUE, KL) + 0.05 * rng.normal(size=len(KL)) * (KL > 0)
    found = over.fit(KL, gain)
    covered += found.beta_interval[0] <= 0.15 <= found.beta_interval[1]
    if i == 0:
      f = lambda kl, a, b: over.curve(TRUE._replace(alpha=a, beta=b), kl)
      (alpha, beta), covariance = optimize.curve_fit(f, KL[1:], gain[1:], (0.5, 0.1))
      assert (alpha, beta) == (pytest.approx(found.alpha), pytest.approx(found.beta))
      half = (found.beta_interval[1] - found.beta_interval[0]) / 2
      assert half == pytest.approx(2.5706 * np.sqrt(covariance[1, 1]), rel=1e-3)  # t of 5 degrees
  assert 0.9 < covered / 200 < 0.99


def test_a_gain_that_does_not_fall_has_no_peak():
  d = np.sqrt(KL)
  gain = d * (0.3 + 0.1 * np.log(np.maximum(d, 1e-9)))
  assert over.fit(KL, gain).peak == np.inf


@pytest.mark.skipif(not PUBLISHED.exists(), reason='no shared/data/published beside the project')
def test_published_coefficients_of_best_of_n_come_back_from_their_curves():
  d = np.linspace(0, 2.5, 12)
  for row in pd.read_csv(PUBLISHED).itertuples():
    table = pd.DataFrame({'d': d, 'R': d * (row.alpha_bon - row.beta_bon * d)})
    columns = {'d': 'd', 'R': 'R'}
    found = fit('gold_best_of_n', table, columns, loss='squares', bootstrap=0).params
    assert list(found.values()) == pytest.approx([row.alpha_bon, row.beta_bon])


def test_bad_input():
  with pytest.raises(BadInput, match='a KL of -1'):
    over.fit([1, 2, 3, -1], [1, 2, 3, 4])
  with pytest.raises(BadInput, match='fewer than 3 points'):
    over.fit([0, 1, 1, 2], [0, 1, 1, 2])
  with pytest.raises(BadInput, match='one finite number'):
    over.fit([0, 1, 2, np.nan], [0, 1, 1, 2])
