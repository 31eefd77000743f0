"""Intervals, counts, laws of one's own, comparison, provenance."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from law_cases import CASES
from scipy import optimize, stats

from analysis import fit as fits
from analysis import laws, minimise
from analysis.errors import BadInput
from analysis.fit import compare, fit, predict, predict_interval
from analysis.laws import LAWS

X = np.geomspace(1e4, 1e8, 16)
POWER = {'x': 'x', 'L': 'L'}
LINE = {'x': 'x', 'y': 'y'}


def noisy(law='power', sigma=0.01, seed=0):
  _, inputs, y = CASES[law]
  y = y * np.exp(sigma * np.random.default_rng(seed).normal(size=len(y)))
  return dict(zip((*LAWS[law].inputs, LAWS[law].output), (*inputs, y), strict=True))


def line(n=20, sigma=0.1, seed=0):
  x = np.geomspace(1, 1e3, n)
  return {'x': x, 'y': 1 + 0.3 * np.log(x) + np.random.default_rng(seed).normal(0, sigma, n)}


@pytest.mark.parametrize('loss', ['huber_log:1e-3', 'huber_log:0.1', 'squares_log', 'huber:1e-2'])
def test_no_other_minimiser_finds_less(loss):
  table = noisy('chinchilla', 0.02)
  names = {name: name for name in table}
  result = fit('chinchilla', table, names, loss=loss, bootstrap=0)
  how = minimise.parse_loss(loss)

  def objective(t):
    y = laws.chinchilla(*np.exp(t), table['N'], table['D'])
    r = np.abs(np.log(y / table['L'])) if how.log else np.abs(y - table['L'])
    return np.sum(np.where(r < how.delta, r**2 / 2, how.delta * (r - how.delta / 2)) if
                  np.isfinite(how.delta) else r**2)  # fmt: skip

  start = np.log([1.5, 300.0, 0.3, 300.0, 0.3])
  rival = optimize.minimize(objective, start, method='Nelder-Mead',
                            options={'maxiter': 4000, 'maxfev': 4000}).fun  # fmt: skip
  assert result.objective == pytest.approx(objective(np.log(list(result.params.values()))))
  assert result.objective <= rival * (1 + 1e-9)


@pytest.mark.parametrize('delta', ['1e-3', '1e-6'])
def test_a_tiny_delta_is_least_absolute_deviations(delta):
  """Of a line in log x the minimum is a vertex: through two of the points, by enumeration."""
  table = line(12, 0.3)
  result = fit('log_linear', table, LINE, loss=f'huber:{delta}', bootstrap=0)
  at = np.log(table['x'])
  sums = []
  for i in range(12):
    for j in range(i):
      slope = (table['y'][i] - table['y'][j]) / (at[i] - at[j])
      sums.append(np.abs(table['y'] - table['y'][i] - slope * (at - at[i])).sum())
  found = np.abs(predict(result, table) - table['y']).sum()
  assert found == pytest.approx(min(sums), abs=2 * 12 * float(delta))


def test_profile_of_a_line_is_students_interval():
  table = line()
  result = fit('log_linear', table, LINE, loss='squares', bootstrap=0, profile=True)
  exact = stats.linregress(np.log(table['x']), table['y'])
  t = stats.t.ppf(0.975, 18)
  assert result.params['b'] == pytest.approx(exact.slope)
  ends = exact.slope - t * exact.stderr, exact.slope + t * exact.stderr
  assert result.profiles['b'] == pytest.approx(ends, rel=2e-3)
  ends = exact.intercept + np.array([-t, t]) * exact.intercept_stderr
  assert result.profiles['a'] == pytest.approx(ends, rel=2e-3)


def test_profile_is_where_the_objective_rises_by_the_threshold():
  table = noisy('power', 0.02)
  result = fit('power', table, POWER, loss='squares_log', bootstrap=0, profile=True)
  rise = stats.f.ppf(0.95, 1, 13) * result.objective / 13
  for name, ends in result.profiles.items():
    for end in ends:
      held = fit('power', table, POWER, loss='squares_log', bootstrap=0, fixed={name: end})
      assert held.objective - result.objective == pytest.approx(rise, rel=1e-2)


def test_residual_bootstrap_of_a_line_has_its_standard_error():
  table = line(40)
  result = fit('log_linear', table, LINE, loss='squares', bootstrap=2000, resample='residuals')
  exact = stats.linregress(np.log(table['x']), table['y'])
  assert result.samples[:, 1].std() == pytest.approx(exact.stderr, rel=0.08)
  assert result.samples[:, 0].std() == pytest.approx(exact.intercept_stderr, rel=0.08)
  assert result.provenance['options']['resample'] == 'residuals'


@pytest.mark.parametrize('resample', ['pairs', 'residuals'])
def test_each_bootstrap_sample_is_the_minimum_of_its_resample(resample):
  """Their spread is that of the profile, which is another way to see the same."""
  table = noisy('chinchilla', 0.01)
  names = {name: name for name in table}
  result = fit('chinchilla', table, names, bootstrap=300, resample=resample, profile=True)
  for name, (low, high) in result.profiles.items():
    width = np.subtract(*np.log(result.intervals[name])) / np.log(low / high)
    assert 0.4 < width < 2.5, name


def test_counts_are_fitted_by_their_likelihood():
  """Against scipy's own minimiser of the binomial likelihood."""
  k = 2.0 ** np.arange(8)
  p, n = laws.coverage(2.0, 0.5, k), np.full(8, 200)
  c = np.random.default_rng(0).binomial(n, p)
  table = {'k': k, 'c': c, 'n': n}
  columns = {'k': 'k', 'pass_at_k': 'c'}
  result = fit('coverage', table, columns, loss='binomial', trials='n', bootstrap=100, profile=True)

  def negative(t):
    return -stats.binom.logpmf(c, n, laws.coverage(*np.exp(t), k)).sum()

  exact = optimize.minimize(negative, np.log([1.0, 0.3]), method='Nelder-Mead', tol=1e-12)
  assert list(result.params.values()) == pytest.approx(np.exp(exact.x), rel=1e-4)
  saturated = -stats.binom.logpmf(c, n, c / n).sum()
  assert result.objective == pytest.approx(exact.fun - saturated, rel=1e-6)
  assert result.aicc == pytest.approx(2 * exact.fun + 4 + 2 * 2 * 3 / (8 - 3), rel=1e-9)
  for name, truth in (('a', 2.0), ('b', 0.5)):
    assert result.profiles[name][0] < truth < result.profiles[name][1]
  none = fit('coverage', {**table, 'c': np.where(k < 2, 0, c)}, columns, loss='binomial',
             trials='n', bootstrap=0)  # fmt: skip
  assert np.isfinite(none.objective)


def test_a_law_of_ones_own():
  def mine(floor: (0, 10), A: (1e-9, 1e9), alpha: (0.01, 3), *, size):
    """loss = floor + A size^-alpha"""
    return floor + A * size**-alpha

  table = noisy('power', 0.0)
  result = fit(mine, table, {'size': 'x', 'loss': 'L'}, bootstrap=20)
  assert result.law == 'mine' and list(result.params) == ['floor', 'A', 'alpha']
  assert list(result.params.values()) == pytest.approx(CASES['power'].params, rel=1e-5)
  assert predict(result, {'x': X}) == pytest.approx(table['L'], rel=1e-6)
  low, high = predict_interval(result, {'x': X})
  assert np.all(low <= high)


def test_a_law_of_ones_own_without_bounds_or_grid():
  def wave(height, middle, width, *, x):
    return height * np.exp(-(((x - middle) / width) ** 2))

  x = np.linspace(-3, 5, 40)
  table = {'x': x, 'y': 2.5 * np.exp(-(((x - 1.3) / 0.8) ** 2))}
  result = fit(wave, table, {'x': 'x', 'y': 'y'}, loss='squares', bootstrap=0)
  assert result.objective < 1e-20
  assert result.params['middle'] == pytest.approx(1.3)


def test_a_direction_in_which_nothing_changes_is_named():
  def twice(a: (1e-6, 1e6), b: (1e-6, 1e6), *, x):
    return a * b * x

  def blind(a: (1e-6, 1e6), b: (1e-6, 1e6), *, x):
    return a * x + 0 * b

  table = {'x': X, 'y': 3 * X * np.exp(np.random.default_rng(0).normal(0, 0.1, 16))}
  result = fit(twice, table, LINE, bootstrap=0)
  assert result.flat == (('a', 'b'),)
  assert 'flat along a and b together' in result.unidentified['a']
  result = fit(blind, table, LINE, bootstrap=0)
  assert result.flat == (('b',),) and result.identified['a']


def test_all_sizes_equal_but_one_do_not_identify_their_exponent():
  N = np.where(np.arange(24) == 0, 1e8, 1.01e8)
  D = np.geomspace(1e8, 1e11, 24)
  L = laws.chinchilla(1.7, 400, 0.34, 900, 0.3, N, D)
  L = L * np.exp(np.random.default_rng(0).normal(0, 0.01, 24))
  names = {name: name for name in 'NDL'}
  result = fit('chinchilla', {'N': N, 'D': D, 'L': L}, names, bootstrap=0)
  assert not result.identified['alpha'] and not result.identified['A']


def test_compare_prefers_the_law_that_made_the_data():
  table = noisy('sft_multiplicative', 0.003)
  columns = {**{name: name for name in table}, 'x': 'D', 'N': 'X'}
  cut = np.median(table['X'] * table['D'])
  rows = compare(['sft_multiplicative', 'sft_additive', 'power', 'chinchilla'], table, columns,
                 holdout=f'X * D > {cut}', bootstrap=0, loss='squares_log')  # fmt: skip
  assert rows['law'][0] == 'sft_multiplicative'
  assert list(rows['holdout_error']) == sorted(rows['holdout_error'])
  assert rows.set_index('law')['delta_aicc']['sft_multiplicative'] == 0
  # chinchilla and sft_additive are the same formula in other names
  same = rows.set_index('law').loc[['sft_additive', 'chinchilla'], 'objective']
  assert same.iloc[0] == pytest.approx(same.iloc[1], rel=1e-6)


def test_aicc_of_squares_is_the_gaussian_one():
  table = line()
  result = fit('log_linear', table, LINE, loss='squares', bootstrap=0)
  n, k = 20, 3
  likelihood = stats.norm.logpdf(
    predict(result, table) - table['y'], scale=np.sqrt(result.objective / n)
  )
  assert result.aicc == pytest.approx(2 * k - 2 * likelihood.sum() + 2 * k * (k + 1) / (n - k - 1))


def test_columns_are_expressions_of_one_another_and_rows_are_dropped_with_a_reason():
  table = pd.DataFrame(noisy('chinchilla', 0.01))
  table = table.assign(**{'the size': table['N'], 'flop': 6 * table['N'] * table['D']})
  columns = {'N': '`the size`', 'D': 'flop / (6 * N)', 'L': 'L'}
  plain = fit('chinchilla', table, {name: name for name in 'NDL'}, bootstrap=0)
  found = fit('chinchilla', table.drop(columns=['N', 'D']), columns, bootstrap=0)
  assert found.params == pytest.approx(plain.params)
  worst = fit('chinchilla', table, {name: name for name in 'NDL'}, bootstrap=0,
              drop=['top:2:L', 'N > 9e8'])  # fmt: skip
  by_hand = table.drop(table['L'].nlargest(2).index).query('N <= 9e8')
  assert worst.rows == len(by_hand) and ('top:2:L') in {why for _, why in worst.dropped}
  assert {row for row, _ in worst.dropped} == set(table.index) - set(by_hand.index)
  assert predict(worst, by_hand) == pytest.approx(by_hand['L'], rel=0.1)


def test_json_has_all_and_is_read_back(tmp_path):
  table = noisy()
  result = fit('power', table, POWER, bootstrap=20, profile=True, holdout=X > 5e7, command='run me')
  result.to_json(tmp_path / 'deep' / 'fit.json')
  about = json.loads((tmp_path / 'deep' / 'fit.json').read_text())
  assert about['provenance']['command'] == 'run me' and about['formula'] == LAWS['power'].formula
  assert about['provenance']['versions']['numpy'] == np.__version__
  back = fits.read(tmp_path / 'deep' / 'fit.json')
  for name in fits.Fit._fields:
    assert np.all(getattr(back, name) == getattr(result, name)), name
  assert predict(back, table) == pytest.approx(predict(result, table))
  changed = dict(table, L=table['L'] * np.where(X == X[3], 1.0000001, 1))
  other = fit('power', changed, POWER, bootstrap=0)
  assert other.provenance['data_sha256'] != result.provenance['data_sha256']
  (tmp_path / 'bad.json').write_text('{"law": "power"}')
  with pytest.raises(BadInput, match='not a fit'):
    fits.read(tmp_path / 'bad.json')
  with pytest.raises(BadInput, match='no such file'):
    fits.read(tmp_path / 'none.json')


def test_the_same_call_gives_the_same_bits():
  table = noisy('chinchilla', 0.02)
  names = {name: name for name in table}
  one, two = (fit('chinchilla', table, names, bootstrap=150) for _ in range(2))
  assert one.params == two.params and np.array_equal(one.samples, two.samples)


@pytest.mark.parametrize(
  'law,options,message',
  [
    ('powr', {}, "law 'powr' is not there; nearest: power"),
    ('zzz', {}, "law 'zzz' is not there"),
    ('power', {'resample': 'rows'}, "resample 'rows': one of pairs, residuals"),
    ('power', {'loss': 'binomial'}, "'binomial' needs trials"),
    ('power', {'trials': 'x'}, "'binomial' needs trials"),
    ('power', {'loss': 'huber_log:-1'}, "loss 'huber_log:-1'"),
    ('power', {'drop': 'top:99:L'}, 'with a count of 1 to 15'),
    ('power', {'drop': 'x + 1'}, 'write a comparison'),
    ('power', {'holdout': 'x > oops'}, "column 'oops' is not there; there are x, L"),
    ('power', {'holdout': 'x > 1e99'}, 'holds for no row, so nothing would be tested'),
    ('power', {'drop': 'x > 0'}, 'no row is left'),
    ('power', {'drop': 'x > 1e4'}, 'one point does not determine 3 parameters'),
  ],
)
def test_bad_options_are_one_line(law, options, message):
  with pytest.raises(BadInput, match=message) as error:
    fit(law, noisy(), POWER, **({'bootstrap': 5} | options))
  assert '\n' not in str(error.value)


def test_bad_counts_and_a_definition_by_itself():
  table = {'k': [1.0, 2, 4], 'c': [1, 30, 3], 'n': [9, 9, 9]}
  with pytest.raises(BadInput, match='30 successes of 9 trials'):
    fit('coverage', table, {'k': 'k', 'pass_at_k': 'c'}, loss='binomial', trials='n')
  with pytest.raises(BadInput, match='q -> z -> q: defined by itself'):
    fit('power', noisy(), {'x': '2 * q', 'q': 'z * 1', 'z': 'q + 1', 'L': 'L'})
  table['c'], table['n'] = [1, 3, 0], [9, 9, 0]  # a row without trials has no share to be held to
  with pytest.raises(BadInput, match=r'0 successes of 0 trials \(row 2 kept\)'):
    fit('coverage', table, {'k': 'k', 'pass_at_k': 'c'}, loss='binomial', trials='n',
        holdout='k > 3')  # fmt: skip


def test_the_baseline_is_the_mean_of_the_rows_that_are_equally_near():
  """Three seeds at the last fitted point: what is held out is not compared with any one of them."""
  table = {'x': np.repeat(X, 3), 'L': np.repeat(laws.power(0.5, 2.0, 0.5, X), 3)}
  table['L'] = table['L'] * np.tile([0.9, 1.0, 1.2], len(X))
  held = table['x'] == X.max()
  result = fit('power', table, POWER, bootstrap=0, holdout=held, loss='squares')
  last = table['L'][table['x'] == np.sort(X)[-2]].mean()
  error = np.sqrt(np.mean((last - table['L'][held]) ** 2))
  assert result.baseline_error == pytest.approx(error)


def test_a_row_that_is_of_no_cluster():
  table = noisy() | {'seed': [*np.arange(len(X) - 1) % 4, np.nan]}
  with pytest.raises(BadInput, match=f"column 'seed' is empty in row {len(X) - 1}"):
    fit('power', table, POWER, clusters='seed', bootstrap=20)
  result = fit('power', table, POWER, clusters='seed', bootstrap=20, missing='drop')
  assert result.dropped == ((len(X) - 1, 'seed is missing'),)


def test_a_law_that_calls_math_is_told_what_to_call():
  def mine(a: (0.1, 10), *, x):
    return math.exp(-a) * x

  with pytest.raises(BadInput, match=r'as math\.exp does: use np\.exp'):
    fit(mine, noisy(), {'x': 'x', 'L': 'L'}, bootstrap=0)
