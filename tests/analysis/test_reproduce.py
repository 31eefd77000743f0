"""Published fits, from the published data. Where a published point is not the best optimum, the
objective is asserted, not the parameters."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import approaches, laws
from analysis.fit import fit, predict

DATA = Path(__file__).parents[2] / '../shared/data'
CHINCHILLA = {'N': 'Model Size', 'D': '`Training FLOP` / (6 * N)', 'L': 'loss'}


def shared(name):
  if not (DATA / name).exists():
    pytest.skip(f'the shared data is not here: {DATA / name}')
  return pd.read_csv(DATA / name)


def chinchilla_runs():
  return shared('chinchilla/svg_extracted_data.csv')


def test_chinchilla_240_reaches_the_best_known_optimum():
  result = fit('chinchilla', chinchilla_runs(), CHINCHILLA, drop='top:5:loss', bootstrap=400)
  assert result.rows == 240 and len(result.dropped) == 5
  assert result.objective < 0.001018274 + 5e-9
  best = {'A': 477.83, 'B': 2143.4, 'E': 1.81722, 'alpha': 0.34731, 'beta': 0.36717}
  assert result.params == pytest.approx(best, rel=1e-4)
  assert all(result.identified.values())
  # Besiroglu et al.'s standard errors, from 4000 bootstraps.
  errors = dict(zip(result.params, result.samples.std(axis=0), strict=True))
  published = {'A': 124.58, 'B': 1293.23, 'E': 0.03, 'alpha': 0.02, 'beta': 0.02}
  assert errors == pytest.approx(published, rel=0.3)
  # The exponent of the best size in compute, a = beta / (alpha + beta).
  draws = pd.DataFrame(result.samples, columns=list(result.params))
  a, growth = (p['beta'] / (p['alpha'] + p['beta']) for p in (result.params, draws))
  low, high = growth.quantile([0.025, 0.975])
  assert a == pytest.approx(0.5139, abs=1e-3) and low < 0.5 < high < 0.56


def test_chinchilla_245():
  result = fit('chinchilla', chinchilla_runs(), CHINCHILLA, bootstrap=0)
  assert result.objective < 0.00182601 + 5e-9
  found = [result.params[p] for p in ('E', 'alpha', 'beta')]
  assert found == pytest.approx([1.8913, 0.3493, 0.4530], abs=1e-4)
  assert result.intervals == {}


def test_chinchilla_by_isoflop_parabolas():
  columns = {'C': 'Training FLOP', 'N': 'Model Size', 'L': 'loss'}
  growth = approaches.isoflop(chinchilla_runs(), columns)
  assert growth.a == pytest.approx(0.49, abs=0.01)  # published: .49 and .51
  assert growth.a_interval[0] < 0.49 < growth.a_interval[1]
  assert np.ptp(growth.a_interval) < 0.12 and len(growth.optima) >= 9


def test_data_constrained_has_a_better_optimum_whose_half_life_is_not_identified():
  runs = shared('data_constrained/data_constrained_runs.csv')
  columns = {'N': 'params', 'D': 'tokens', 'U': 'unique_tokens', 'L': 'val_loss'}
  a, b, e, exponent = 6.255414, 7.3049974, 0.6254804, 0.3526596
  fixed = {'A': np.exp(a), 'B': np.exp(b), 'E': np.exp(e), 'alpha': exponent, 'beta': exponent}
  result = fit('data_constrained', runs, columns, fixed=fixed, bootstrap=300, profile=True)
  assert result.objective < 0.01580738 + 1e-8
  assert result.params['R_D'] == pytest.approx(46.99, abs=0.01)
  assert result.params['R_N'] == pytest.approx(2.33, abs=0.01)

  def of(R_N, R_D):
    """Huber's sum and R^2 at a point."""
    at = result._replace(params=result.params | {'R_N': R_N, 'R_D': R_D})
    loss, y = predict(at, runs), runs['val_loss']
    r = np.abs(np.log(loss / y))
    huber = np.where(r < 1e-3, r**2 / 2, 1e-3 * (r - 5e-4)).sum()
    return huber, 1 - ((loss - y) ** 2).sum() / ((y - y.mean()) ** 2).sum()

  assert of(5.309743, 15.387756) == pytest.approx((0.01582594, 0.7722), abs=1e-4)
  assert of(5.309743, 15.387756)[0] == pytest.approx(0.01582594, abs=1e-8)
  assert of(1e9, 1e9)[1] == pytest.approx(0.4452, abs=1e-4)  # tokens never decay
  # R_D*: 5 to 95 % from 6.7 to beyond 1e8, in the bootstrap; and the profile says the same.
  low, high = np.quantile(result.samples[:, list(result.params).index('R_D')], [0.05, 0.95])
  assert 4 < low < 10 and high > 1e8
  assert not result.identified['R_D'] and 'not identified' in result.unidentified['R_D']
  assert result.profiles['R_D'][0] == pytest.approx(4.0, abs=1.5)
  assert result.profiles['R_D'][1] > 1e8


@pytest.mark.parametrize(
  'corpus,published,errors',
  [
    ('c4_original', (1.508, 141.3, 189.5, 0.1212), (0.850, 2.079, 0.756)),
    ('rpj', (1.837, 212.2, 366.7, 0.1364), (0.857, 2.206, 0.715)),
    ('rw_original', (1.734, 157.1, 246.2, 0.1272), (0.865, 2.215, 0.707)),
  ],
)
def test_overtraining_from_five_runs_and_downstream_errors_from_six(corpus, published, errors):
  runs = shared('overtraining/gadre_runs.csv').query(f'dataset == "{corpus}"')
  optimal = '(chinchilla_multiplier == 1)'
  five = f'{optimal} and params < 1e9 or chinchilla_multiplier == 16 and params < 2e7'
  columns = {'C': '6 * params * tokens', 'M': 'tokens / params', 'L': 'loss_c4_val'}
  columns |= {'Err': 'err_avg17'}
  result = fit('overtraining', runs, columns, loss='squares', bootstrap=0, holdout=f'not ({five})')
  assert result.rows == 5
  assert list(result.params.values()) == pytest.approx(published, rel=5e-4)
  assert result.holdout_error < 0.5 * result.baseline_error
  # Four parameters of five runs: a t of one degree of freedom says how little that determines.
  six = f'not ({five} or {optimal} and params < 2e9)'
  down = fit('downstream_error', runs, columns, loss='squares', bootstrap=0, holdout=six)
  assert down.rows == 6
  assert list(down.params.values()) == pytest.approx(errors, abs=6e-4)
  assert down.holdout_error < 0.02


@pytest.mark.parametrize(
  'task,rectified,vanilla', [('flan', 0.00648, 0.03583), ('wmt19', 0.01228, 0.06290)]
)
def test_rectified_sft_law_at_or_below_the_published_error(task, rectified, vanilla):
  table = shared(f'sft_rectified/{task}.csv')
  sizes = [c for c in table.columns if c.isdigit() and c != '0']
  errors = {'rectified': [], 'power': []}
  for _, row in table.iterrows():
    runs = {'D': np.array(sizes, float), 'L': row[sizes].to_numpy(float)}
    for law, found in errors.items():
      result = fit(law, runs, {'D': 'D', 'x': 'D', 'L': 'L'}, loss='squares_log', bootstrap=0)
      found.append(np.sqrt(result.objective / len(sizes)))
  assert len(table) == 30
  assert np.mean(errors['rectified']) <= rectified
  assert np.mean(errors['power']) <= vanilla
  assert np.mean(errors['rectified']) < 0.25 * np.mean(errors['power'])


def scalerl(row, fitted, draws):
  """Ceilings by the sigmoid, and by a power law, from the first half of noisy curves."""
  C = np.linspace(0.3, 8, 40) * row.C_mid_gpu_hours
  clean = laws.sigmoid(0.2, row.A, row.C_mid_gpu_hours, row.B, C)
  rng, found = np.random.default_rng(0), []
  for _ in range(draws):
    table = {'C': C, 'R': clean + rng.normal(0, 0.005, 40)}
    options = {'loss': 'squares', 'bootstrap': 0, 'holdout': ~fitted(C)}
    columns = {'C': 'C', 'R': 'R'}
    curve = fit('sigmoid', table, columns, fixed={'R_0': 0.2}, **options)
    power = fit('rising_power', table, columns, **options)
    assert curve.params['R_0'] == 0.2
    found.append((curve.params['A'], power.params['A'], curve.holdout_error, power.holdout_error))
  return np.array(found).T


def first_half(C):
  return C <= C[-1] / 2


@pytest.mark.slow
def test_scalerl_ceilings_of_table_1_from_the_first_half_of_the_compute():
  for row in shared('published/scalerl_table1.csv').itertuples():
    ceilings, powers, curve_error, power_error = scalerl(row, first_half, 30)
    assert np.median(ceilings) == pytest.approx(row.A, abs=0.02), row.experiment
    assert np.std(ceilings) < 0.02  # ScaleRL's margin
    assert np.median(powers) > row.A + 0.1  # what a power law makes of it
    assert np.median(curve_error) < np.median(power_error)


def test_scalerl_a_power_law_over_predicts_the_ceiling():
  table = shared('published/scalerl_table1.csv').set_index('experiment')
  ceilings, powers, curve_error, power_error = scalerl(table.loc['ScaleRL-32k'], first_half, 20)
  assert np.median(ceilings) == pytest.approx(0.645, abs=0.02)
  assert np.median(powers) > 0.95  # the source: 1.0, where the sigmoid has .645
  assert np.median(curve_error) < 0.5 * np.median(power_error)


def test_scalerl_where_half_of_the_compute_is_too_little():
  """Half of log C ends before the turn: single draws scatter beyond the margin of .02."""
  table = shared('published/scalerl_table1.csv').set_index('experiment')
  before_the_turn = lambda C: C <= np.sqrt(C[0] * C[-1])
  ceilings, *_ = scalerl(table.loc['ScaleRL'], before_the_turn, 20)
  assert np.std(ceilings) > 0.02
