"""Planted parameters recovered under every loss; objectives by definition; bad input in a line."""

import numpy as np
import pandas as pd
import pytest
from law_cases import CASES

from analysis import laws
from analysis.errors import BadInput
from analysis.fit import fit, predict, predict_interval
from analysis.laws import LAWS


def same(law):
  return {name: name for name in (*LAWS[law].inputs, LAWS[law].output)}


def planted(law, noise=0.0, seed=0):
  _, inputs, y = CASES[law]
  y = y * np.exp(noise * np.random.default_rng(seed).normal(size=len(y)))
  return pd.DataFrame({**dict(zip(LAWS[law].inputs, inputs, strict=True)), LAWS[law].output: y})


@pytest.mark.parametrize('law', LAWS)
def test_planted_parameters_are_recovered_within_their_intervals(law):
  result = fit(law, planted(law, noise=0.004), same(law), loss='squares_log', bootstrap=200)
  for (name, value), truth in zip(result.params.items(), CASES[law].params, strict=True):
    low, high = result.intervals[name]
    assert low <= value <= high
    width = high - low
    assert low - 0.5 * width < truth < high + 0.5 * width, name
    assert width < 2.0 * abs(truth), name
  assert result.unidentified == {}


@pytest.mark.parametrize('loss', ['huber_log', 'huber:0.01', 'squares', 'squares_log'])
@pytest.mark.parametrize('law', LAWS)
def test_without_noise_the_truth_is_exact_under_every_loss(law, loss):
  result = fit(law, planted(law), same(law), loss=loss, bootstrap=0)
  assert list(result.params.values()) == pytest.approx(CASES[law].params, rel=1e-4)


def test_huber_shrugs_at_an_outlier_that_squares_follow():
  table = planted('power', noise=0.001)
  table.loc[3, 'L'] *= 2
  robust = fit('power', table, same('power'), bootstrap=0).params['alpha']
  squares = fit('power', table, same('power'), loss='squares_log', bootstrap=0).params['alpha']
  assert abs(robust - 0.34) < 0.001 < 0.005 < abs(squares - 0.34)


def test_objective_and_standard_errors_are_those_of_the_definition():
  table = planted('power', noise=0.01).assign(error=np.where(np.arange(16) < 8, 0.1, 0.4))
  result = fit('power', table, same('power'), loss='huber:1.5', se='error', bootstrap=0)
  residual = np.abs(predict(result, table) - table['L']) / table['error']
  huber = np.where(residual <= 1.5, residual**2 / 2, 1.5 * (residual - 0.75))
  assert result.objective == pytest.approx(huber.sum())
  squares = fit('power', table, same('power'), loss='squares', bootstrap=0)
  assert squares.objective == pytest.approx(((predict(squares, table) - table['L']) ** 2).sum())
  # A standard error far too large takes its row out of the fit.
  table.loc[5, ['L', 'error']] = [9e9, 1e12]
  assert fit(
    'power', table, same('power'), loss='squares', se='error', bootstrap=0
  ).params == pytest.approx(
    fit('power', table.drop(5), same('power'), loss='squares', se='error', bootstrap=0).params,
    rel=1e-3,
  )


def test_a_floor_far_below_the_data_is_reported_as_not_identified():
  x = np.geomspace(1e3, 1e5, 8)
  y = (1e-3 + 50 * x**-0.3) * np.exp(np.random.default_rng(0).normal(0, 0.03, 8))
  result = fit('power', {'x': x, 'L': y}, same('power'), bootstrap=100)
  assert not result.identified['E']
  assert result.identified['alpha']
  assert 'not identified by these data' in result.unidentified['E']


def test_standard_errors_of_logs_are_relative():
  table = planted('power', noise=0.01).assign(error=np.where(np.arange(16) < 8, 0.1, 0.4))
  result = fit('power', table, same('power'), loss='squares_log', se='error', bootstrap=0)
  residual = np.log(predict(result, table) / table['L']) / (table['error'] / table['L'])
  assert result.objective == pytest.approx((residual**2).sum())


def test_a_parameter_at_its_bound_and_one_of_any_scale_are_not_identified():
  C = np.geomspace(1, 30, 12)
  rng = np.random.default_rng(0)
  rising = {'C': C, 'R': laws.sigmoid(0.0, 0.6, 4.0, 1.5, C) + rng.normal(0, 0.01, 12)}
  result = fit('sigmoid', rising, same('sigmoid'), loss='squares', bootstrap=100)
  assert 'runs to its bound, 0 to 1' in result.unidentified['R_0']
  # A third of a decade under noise: the exponent is loose, and the amplitude is anything.
  x = np.geomspace(1e6, 2e6, 8)
  y = 3e6 * x**-1.0 * np.exp(rng.normal(0, 0.15, 8))
  result = fit('power', {'x': x, 'L': y}, same('power'), fixed={'E': 1e-6}, bootstrap=100)
  assert result.intervals['A'][1] < 1e29 and 'spans a ratio' in result.unidentified['A']
  assert 'E' not in result.unidentified and result.params['E'] == 1e-6


def test_holdout_is_not_seen_and_is_scored_beside_the_nearest_row():
  table, mask = planted('power'), np.arange(16) >= 13
  result = fit('power', table, same('power'), holdout=mask, bootstrap=0)
  assert result.rows == 13 and result.holdout_error < 1e-6
  fitted = np.asarray(table['x'])[~np.asarray(mask)]
  assert result.ranges == {'x': (fitted.min(), fitted.max())}
  last = np.log(table['L'][12] / table['L'][13:])
  assert result.baseline_error == pytest.approx(np.sqrt(np.mean(last**2)))
  table.loc[mask, 'L'] *= 2
  spoiled = fit('power', table, same('power'), holdout=mask, bootstrap=0)
  assert spoiled.params == pytest.approx(result.params)
  assert spoiled.holdout_error == pytest.approx(np.log(2))


def test_clusters_are_resampled_whole():
  """Eight runs, each with an offset of its own: rows are not independent, runs are."""
  rng = np.random.default_rng(0)
  x = np.tile(np.geomspace(1, 1e4, 10), 8)
  run = np.repeat(np.arange(8), 10)
  table = {'x': x, 'y': 1 + 0.05 * np.log(x) + rng.normal(0, 0.1, 8)[run], 'run': run}
  width = lambda **kw: np.ptp(
    fit('log_linear', table, same('log_linear'), loss='squares', **kw).intervals['a']
  )
  assert width(clusters='run') > 1.5 * width()


def test_interval_of_the_curve_covers_it_about_as_often_as_it_says():
  grid, covered = {'x': np.array([1e4, 1e6, 1e9])}, []
  truth = laws.power(*CASES['power'].params, grid['x'])
  for seed in range(40):
    table = planted('power', noise=0.01, seed=seed)
    result = fit('power', table, same('power'), loss='squares_log', bootstrap=100, seed=seed)
    low, high = predict_interval(result, grid)
    assert np.all((low <= predict(result, grid) * 1.05) & (predict(result, grid) <= high * 1.05))
    covered.append((low <= truth) & (truth <= high))
  assert 0.75 < np.mean(covered) <= 1


def test_missing_rows_are_dropped_only_when_asked_and_are_listed():
  table = planted('power')
  table.loc[4, 'L'] = np.nan
  result = fit('power', table, same('power'), missing='drop', bootstrap=0)
  assert result.rows == 15 and result.dropped == ((4, 'L is missing'),)


def with_cell(row, column, value):
  return (
    planted('power')
    .astype(object)
    .pipe(
      lambda t: t.assign(**{column: [value if i == row else v for i, v in enumerate(t[column])]})
    )
  )


@pytest.mark.parametrize(
  'table,options,message',
  [
    (planted('power').rename(columns={'x': 'tokens'}), {}, "column 'x' is not there.*tokens, L"),
    (with_cell(3, 'L', 'oops'), {}, "column 'L', row 3: 'oops' is not a finite number"),
    (with_cell(2, 'L', float('nan')), {}, "column 'L', row 2: nan is not a finite number"),
    (with_cell(0, 'x', 0.0), {}, "column 'x', row 0: 0.0 must be positive"),
    (with_cell(1, 'L', -1.0), {}, "column 'L', row 1: -1.0 must be positive"),
    (planted('power').head(2), {}, '2 distinct points for 3 parameters'),
    (planted('power').assign(x=7.0), {}, "column 'x': all values are equal"),
    (planted('power'), {'loss': 'hubert'}, "loss 'hubert': one of huber_log"),
    (planted('power'), {'fixed': {'gamma': 1}}, "no parameter 'gamma'; it has E, A, alpha"),
    (planted('power'), {'holdout': [True]}, 'give 16 booleans'),
    (planted('power'), {'holdout': np.ones(16, bool)}, 'no row is left to fit'),
    (planted('power').assign(run=1), {'clusters': 'run'}, "column 'run' has one value"),
    (planted('power'), {'se': 'error'}, "column 'error' is not there"),
    (planted('power'), {'missing': 'ignore'}, "either 'error' or 'drop'"),
  ],
)
def test_bad_input_is_one_line_that_says_what_and_where(table, options, message):
  with pytest.raises(BadInput, match=message) as error:
    fit('power', table, same('power'), **options)
  assert '\n' not in str(error.value)


def test_raw_losses_take_an_output_of_zero_and_log_losses_name_its_row():
  table = {'x': np.geomspace(1, 100, 6), 'y': np.array([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])}
  result = fit('log_linear', table, same('log_linear'), loss='squares', bootstrap=0)
  assert result.params['b'] == pytest.approx(0.5 / np.log(100))
  with pytest.raises(BadInput, match="column 'y', row 0"):
    fit('log_linear', table, same('log_linear'), bootstrap=0)


def test_columns_must_be_the_laws_own():
  with pytest.raises(BadInput, match='power needs x, L; given x, loss'):
    fit('power', planted('power'), {'x': 'x', 'loss': 'L'})
