"""The joint law: planted truth recovered, exact derivatives, a corner that does not leak."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from analysis import estimators, joint, regression
from analysis.errors import BadInput

SIZES, BUDGETS = (3e4, 1e5, 3e5), (1e5, 2e5, 4e5, 8e5, 1.6e6)
BASE = 5e5  # tokens of pretraining of every cell, where they do not vary
MEAN = {'1': -0.8, 'N': 0.8, 'D': 0.7, 'C': 0.5, 'N*D': 0.15}
DISPERSION = {'1': 0.7, 'N': 0.1, 'C': 0.2}


def cells(rl=True):
  grid = [(N, BASE, D, 0.0) for N in SIZES for D in BUDGETS]
  parents = [(N, D) for N in SIZES[1:] for D in (4e5, 1.6e6)] if rl else []
  grid += [(N, BASE, D, 2e7 * N * updates) for N, D in parents for updates in (10, 20, 40, 80)]
  return dict(zip('NPDC', np.array(grid).T, strict=True))


def truth(rl=True):
  """The planted law as a fit without bootstrap, over all cells."""
  basis = regression.make_basis(cells(rl), tuple(MEAN), tuple(DISPERSION))
  return joint.JointFit(
    basis,
    {t: MEAN[t] for t in basis.mean},
    {t: DISPERSION[t] for t in basis.dispersion},
    {},
    np.zeros((0, len(basis.mean) + len(basis.dispersion))),
    np.nan,
    np.nan,
    0,
  )


def counts(seed=0, problems=64, n=64, rl=True, shared=False):
  """Counts under the planted law; `shared`: a hard problem is hard for every cell."""
  rng, grid, tables = np.random.default_rng(seed), cells(rl), []
  difficulty = rng.random(problems)
  alphas, betas = joint.predict_beta(truth(rl), *grid.values())
  for i, (a, b) in enumerate(zip(alphas, betas, strict=True)):
    chance = special.betaincinv(a, b, difficulty) if shared else rng.beta(a, b, problems)
    table = {'problem': np.arange(problems), 'c': rng.binomial(n, chance)}
    about = {column: grid[x][i] for x, column in joint.COLUMNS.items()}
    tables.append(pd.DataFrame({**table, 'n': n, **about, 'trunk': f'{grid["N"][i]:g}/{i % 2}'}))
  return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope='module')
def study():
  return counts()


def test_likelihood_is_the_beta_binomials(study):
  unique, which = regression.distinct_cells(study, ())
  basis = truth().basis
  X, Z = (regression.design(basis, t, unique) for t in (basis.mean, basis.dispersion))
  c, n = study['c'].to_numpy(), study['n'].to_numpy()
  weights = np.random.default_rng(0).integers(0, 3, (2, len(c))).astype(float)
  objective = regression.beta_binomial(regression.tails(which, len(X), c, n, weights), X, Z)
  theta = np.array([[*MEAN.values(), *DISPERSION.values()]] * 2)
  a, b = joint.predict_beta(truth(), *unique.values())
  choose = special.gammaln(n + 1) - special.gammaln(c + 1) - special.gammaln(n - c + 1)
  rows = estimators.beta_binomial_logpmf(c, n, a[which], b[which]) - choose
  assert objective(theta, False) == pytest.approx(weights @ rows, rel=1e-12)


@pytest.mark.parametrize('name', ['beta_binomial', 'binomial'])
def test_derivatives_are_those_of_finite_differences(study, name):
  rng = np.random.default_rng(1)
  if name == 'beta_binomial':
    unique, which = regression.distinct_cells(study, ())
    basis = truth().basis
    X, Z = (regression.design(basis, t, unique) for t in (basis.mean, basis.dispersion))
    c, n = study['c'].to_numpy(), study['n'].to_numpy()
    tails = regression.tails(which, len(X), c, n, np.ones((1, len(c))))
    objective = regression.beta_binomial(tails, X, Z)
    theta = np.array([[*MEAN.values(), *DISPERSION.values()]])
  else:
    X = rng.normal(size=(30, 4))
    objective = regression.binomial(rng.random((1, 30)), rng.integers(5, 50, 30), X)
    theta = np.array([[0.3, -0.2, 0.5, 0.1]])
  theta = theta + rng.normal(0, 0.2, theta.shape)
  value, gradient, hessian = objective(theta, True)
  assert value == pytest.approx(objective(theta, False))
  for j, step in enumerate(1e-5 * np.eye(theta.shape[1])):
    up, down = objective(theta + step, True), objective(theta - step, True)
    slope, curve = (up[0] - down[0]) / 2e-5, (up[1] - down[1]) / 2e-5
    assert gradient[:, j] == pytest.approx(slope, rel=1e-5, abs=1e-4)
    assert hessian[0, j] == pytest.approx(curve[0], rel=1e-5, abs=1e-4)


def test_planted_coefficients_lie_in_their_intervals(study):
  fit = joint.fit_joint(study, bootstrap=100)
  assert fit.cells == 31 and fit.basis.mean == ('1', 'N', 'D', 'C', 'N*D')
  planted = {term: MEAN[term] for term in fit.basis.mean}
  planted |= {f'dispersion {term}': DISPERSION.get(term, 0.0) for term in fit.basis.dispersion}
  inside = 0
  for name, value in planted.items():
    low, high = fit.intervals[name]
    inside += low <= value <= high
    assert low - (high - low) < value < high + (high - low), name
    assert high - low < 0.35, name
  assert inside >= len(planted) - 2
  assert fit.misfit < 0.06


@pytest.mark.parametrize('shared', [False, True])
def test_intervals_cover_the_truth_about_as_often_as_they_say(shared):
  at = (np.array([3e4, 1e5, 3e5]), BASE, 8e5, 0.0)
  expected = joint.predict_pass_at_k(truth(), *at, 4)[0]
  covered = []
  for seed in range(30):
    fit = joint.fit_joint(counts(seed, problems=40, n=16, shared=shared), bootstrap=60, seed=seed)
    _, low, high = joint.predict_pass_at_k(fit, *at, 4)
    covered.append((low <= expected) & (expected <= high))
  assert 0.82 < np.mean(covered) <= 1


def test_prediction_is_the_closed_form_and_broadcasts():
  N, D, C, k = 1e5, np.array([2e5, 8e5]), 0.0, np.array([[1], [4], [32]])
  law = truth()
  standard = {
    'N': (np.log(N) - law.basis.centre['N']) / law.basis.scale['N'],
    'D': (np.log(D) - law.basis.centre['D']) / law.basis.scale['D'],
    'C': (0.0 - law.basis.centre['C']) / law.basis.scale['C'],
  }
  logit = MEAN['1'] + sum(MEAN[x] * standard[x] for x in 'NDC')
  mean = 1 / (1 + np.exp(-(logit + MEAN['N*D'] * standard['N'] * standard['D'])))
  s = np.exp(DISPERSION['1'] + DISPERSION['N'] * standard['N'] + DISPERSION['C'] * standard['C'])
  value, low, high = joint.predict_pass_at_k(law, N, BASE, D, C, k)
  assert value == pytest.approx(estimators.coverage_from_beta(mean * s, (1 - mean) * s, k))
  assert value[0] == pytest.approx(mean)
  assert value.shape == (3, 2) and np.isnan(low).all() and np.isnan(high).all()


def test_resampling_trunks_too_widens_the_intervals(study):
  shifted, rng = study.copy(), np.random.default_rng(3)
  for _, rows in shifted.groupby('trunk').groups.items():  # a run's own luck
    shifted.loc[rows, 'c'] = rng.binomial(64, rng.uniform(0.3, 0.7), len(rows))
  width = lambda **kw: np.ptp(joint.fit_joint(shifted, **kw).intervals['1'])
  assert width(clusters='trunk') > 1.5 * width()


def test_terms_these_data_cannot_tell_are_left_out():
  fit = joint.fit_joint(counts(rl=False), bootstrap=0)
  assert fit.basis.mean == ('1', 'N', 'D', 'N*D') and fit.intervals == {}
  with pytest.raises(BadInput, match='rl_flops did not vary'):
    joint.predict_pass_at_k(fit, 1e5, BASE, 4e5, 1e12, 1)
  one_parent = counts().query(
    'rl_flops == 0 or (params_non_embedding == 1e5 and sft_tokens == 4e5)'
  )
  assert joint.fit_joint(one_parent, bootstrap=0).basis.mean == ('1', 'N', 'D', 'C', 'N*D')


def _basis(sizes=3, bases=3, budgets=3, rl_sizes=3, rl_budgets=3, ks=6):
  grid = [(N, D, 0.0) for N in range(sizes) for D in range(budgets)]
  grid += [(N, D, 10.0**N * u) for N in range(rl_sizes) for D in range(rl_budgets) for u in (1, 2)]
  rows = [
    (10.0**N, 10.0**P, 10.0**D, C, 2.0**k)
    for N, D, C in grid for P in range(bases) for k in range(ks)
  ]  # fmt: skip
  return regression.make_basis(dict(zip('NPDCk', np.array(rows).T)), joint.MAJORITY, ())


@pytest.mark.parametrize(
  'levels, gone',
  [
    ({}, set()),
    ({'sizes': 2, 'rl_sizes': 2}, {'N*D', 'N*C', 'N*P', 'N*k'}),
    ({'budgets': 2, 'rl_budgets': 2}, {'N*D', 'D*C', 'D*P', 'D*k'}),
    ({'bases': 2}, {'N*P', 'D*P', 'P*k'}),
    ({'bases': 1}, {'P', 'N*P', 'D*P', 'P*k'}),
    ({'rl_sizes': 2}, {'N*C'}),  # three sizes, but a slope of C is known at two
    ({'rl_budgets': 2}, {'D*C'}),
    ({'ks': 2}, {'k*k', 'N*k', 'D*k', 'C*k', 'P*k'}),
  ],
)
def test_a_product_needs_three_levels_of_each_variable(levels, gone):
  assert set(_basis(**levels).mean) == set(joint.MAJORITY) - gone


def test_two_sizes_identify_no_interaction_and_it_would_widen_the_corner(study, monkeypatch):
  def width():
    held = joint.heldout(study, bootstrap=60)
    once = held.table[(held.table['k'] == 1) & (held.table['C'] == 0)].iloc[0]
    return held, special.logit(once['high']) - special.logit(once['low'])

  held, by_rule = width()
  assert held.terms == ('1', 'N', 'D', 'C') and held.left_out == ('N*D', 'N*C', 'D*C')
  monkeypatch.setattr(regression, 'LEVELS', 2)
  held, without = width()
  assert 'N*D' in held.terms
  assert by_rule < 0.9 * without


def test_a_resample_takes_a_problem_in_all_cells_at_once(study):
  weights = pd.DataFrame(joint._row_weights(study, None, 5, 0).T).assign(problem=study['problem'])
  assert (weights.groupby('problem').nunique() == 1).all().all()
  assert weights[0].nunique() > 1


def test_a_cell_where_nothing_is_solved_leaves_the_fit_finite(study):
  poor = study.assign(c=np.where(study['params_non_embedding'] < 5e4, 0, study['c']))
  fit = joint.fit_joint(poor, bootstrap=20)
  assert np.isfinite(fit.samples).all()
  assert joint.predict_pass_at_k(fit, 3e4, BASE, 1e5, 0.0, 32)[0] < 0.1


def test_heldout_corner_beats_the_neighbour_and_nothing_of_it_leaks(study):
  held = joint.heldout(study)
  # Fitted: 2 sizes x 4 budgets and RL from (1e5, 4e5) at 4 points. Held out: 1 + 4.
  assert (held.fitted_cells, held.heldout_cells, held.unscored_cells) == (12, 5, 0)
  assert set(held.table['N']) == {3e5} and set(held.table['D']) == {1.6e6}
  assert held.error['joint'] < 0.06 < held.error['naive']
  assert held.logit_error['joint'] < held.logit_error['naive']
  assert held.loglik_per_sample['joint'] > held.loglik_per_sample['naive']
  assert set(held.error) == {'joint', 'naive', 'marginal_logit', 'marginal_power'}

  # Cells with only the largest size, or only the largest budget, change no prediction ...
  methods = ['joint', 'low', 'high', 'naive', 'marginal_logit', 'marginal_power']
  size = study['params_non_embedding'] == 3e5
  budget = study['sft_tokens'] == 1.6e6
  spoiled = study.assign(c=np.where(size | budget, 64 - study['c'], study['c']))
  again = joint.heldout(spoiled)
  assert np.array_equal(again.table[methods], held.table[methods])
  # ... but the measured corner did change, and so do predictions with a fitted cell.
  assert not np.allclose(again.table['measured'], held.table['measured'])
  other = joint.heldout(study.assign(c=np.where(size | budget, study['c'], 64 - study['c'])))
  assert np.all(other.table[methods] != held.table[methods], axis=0).any()


def test_heldout_measures_and_compares_as_it_says(study):
  table = joint.heldout(study, bootstrap=20).table
  row = table[(table['C'] == 0) & (table['k'] == 8)].iloc[0]
  cell = lambda N, D: study.query(f'params_non_embedding == {N} and sft_tokens == {D}').query(
    'rl_flops == 0'
  )
  pass_at_8 = lambda t: estimators.pass_at_k(t['n'], t['c'], 8).mean()
  assert row['measured'] == pytest.approx(pass_at_8(cell(3e5, 1.6e6)))
  assert row['naive'] == pytest.approx(pass_at_8(cell(1e5, 8e5)))  # one size and one budget down
  assert row['low'] < row['joint'] < row['high']


def test_the_neighbour_of_an_sft_cell_is_an_sft_cell_and_of_an_rl_cell_one_with_rl():
  train = {
    'N': [1e5, 1e5, 1e5, 1e5, 3e4],
    'P': [BASE] * 5,
    'D': [1e5, 8e5, 8e5, 4e5, 1e5],
    'C': [0.0, 1e9, 1e13, 0.0, 0.0],
  }
  held = {'N': [3e5, 3e5], 'P': [BASE] * 2, 'D': [1.6e6, 1.6e6], 'C': [0.0, 1.1e13]}
  as_arrays = lambda t: {x: np.array(v) for x, v in t.items()}
  assert joint._nearest(as_arrays(train), as_arrays(held)).tolist() == [3, 2]


def test_heldout_rl_without_fitted_rl_is_counted_as_unscored(study):
  corner = (study['params_non_embedding'] == 3e5) & (study['sft_tokens'] == 1.6e6)
  held = joint.heldout(study[corner | (study['rl_flops'] == 0)], bootstrap=0)
  assert (held.heldout_cells, held.unscored_cells) == (1, 4)
  assert set(held.table['C']) == {0.0}


MAJORITY = {'1': -0.5, 'N': 0.8, 'D': 0.6, 'C': 0.4, 'k': 0.5, 'k*k': -0.1, 'N*k': 0.2}


def majority_rows(seed=0, problems=200, ks=(1, 2, 4, 8, 16, 32), common=0.8):
  """Rows of majority@k and the planted law; noise is a cell's own, and `common` to all cells."""
  rng, grid = np.random.default_rng(seed), cells()
  rows = {x: np.repeat(v, len(ks)) for x, v in grid.items()} | {
    'k': np.tile(np.array(ks, float), len(grid['N']))
  }
  basis = regression.make_basis(rows, tuple(MAJORITY), ())
  law = joint.JointFit(basis, MAJORITY, {}, {}, np.zeros((0, 7)), np.nan, np.nan, 0)
  mean = joint.predict_majority(law, *rows.values())[0]
  stderr = np.sqrt(mean * (1 - mean) / problems)
  own = np.repeat(rng.normal(size=len(grid['N'])), len(ks))
  noise = (common * rng.normal() + np.sqrt(1 - common**2) * own) * stderr
  table = {column: rows[x] for x, column in joint.COLUMNS.items()} | {'k': rows['k']}
  value = np.clip(mean + noise, 0, 1)
  return pd.DataFrame(table | {'value': value, 'stderr': stderr, 'problems': problems}), law


def test_majority_law_recovers_what_was_planted():
  table, law = majority_rows()
  fit = joint.fit_majority(table)
  gone = {'N*C', 'D*C', 'P', 'N*P', 'D*P', 'P*k'}  # RL from 2 sizes, 2 budgets; one base
  assert set(fit.basis.mean) == set(joint.MAJORITY) - gone
  for term in fit.basis.mean:
    low, high = fit.intervals[term]
    planted = MAJORITY.get(term, 0.0)
    assert low - (high - low) < planted < high + (high - low), term
    assert high - low < 0.9, term
  at = (np.array([1e5, 3e5]), BASE, 8e5, 0.0, 8)
  value, low, high = joint.predict_majority(fit, *at)
  expected = joint.predict_majority(law, *at)[0]
  assert np.all((low < expected) & (expected < high)) and np.all((low < value) & (value < high))
  assert value == pytest.approx(expected, abs=0.04)


def test_majority_intervals_cover():
  at = (np.array([3e4, 1e5, 3e5]), BASE, 8e5, 0.0, 8)
  covered = []
  for seed in range(40):
    table, law = majority_rows(seed)
    _, low, high = joint.predict_majority(joint.fit_majority(table, bootstrap=60, seed=seed), *at)
    expected = joint.predict_majority(law, *at)[0]
    covered.append((low <= expected) & (expected <= high))
  assert 0.85 < np.mean(covered) <= 1


def test_majority_intervals_hold_the_luck_of_cells_and_of_problems():
  table, _ = majority_rows()
  lucky, _ = majority_rows(problems=10, common=0.0)
  width = lambda t: np.ptp(
    joint.predict_majority(joint.fit_majority(t), 1e5, BASE, 8e5, 0.0, 8)[1:]
  )
  no_stderr = lambda t: t.assign(stderr=0.0, problems=200)
  assert 0 < width(no_stderr(table)) < 0.5 * width(table)  # cells agree, problems are shared
  assert width(no_stderr(lucky)) > 2 * width(no_stderr(table))  # cells scatter


def test_heldout_majority_beats_the_neighbour():
  table, _ = majority_rows()
  held = joint.heldout_majority(table)
  assert (held.fitted_cells, held.heldout_cells) == (12, 5)
  assert held.terms == ('1', 'N', 'D', 'C', 'k', 'k*k', 'D*k', 'C*k')
  assert held.left_out == ('N*D', 'N*C', 'D*C', 'N*k')
  assert held.error['joint'] < held.error['naive']
  size, budget = table['params_non_embedding'] == 3e5, table['sft_tokens'] == 1.6e6
  spoiled = joint.heldout_majority(table.assign(value=table['value'].where(~(size | budget), 0.5)))
  assert np.array_equal(spoiled.table['joint'], held.table['joint'])


BASES = (0.0, 2e5, 8e5, 3.2e6)
OF_BASES = MEAN | {'P': 0.5, 'N*P': -0.2, 'D*P': -0.3}


def cells_of_bases():
  """Sizes x bases, one without pretraining, x budgets; RL from the larger of each."""
  grid = [(N, P, D, 0.0) for N in SIZES for P in BASES for D in BUDGETS[::2]]
  grid += [(N, P, D, 1e7 * N) for N in SIZES[1:] for P in BASES[2:] for D in BUDGETS[2::2]]
  return dict(zip('NPDC', np.array(grid).T, strict=True))


def of_bases(mean=OF_BASES, seed=0, problems=64, n=64):
  """Counts of every cell, the law they were drawn from, the cells."""
  rng, grid = np.random.default_rng(seed), cells_of_bases()
  basis = regression.make_basis(grid, tuple(mean), ('1', 'P'))
  law = joint.JointFit(
    basis, mean, {'1': 0.7, 'P': 0.2}, {}, np.zeros((0, len(mean) + 2)), np.nan, np.nan, 0
  )
  a, b = joint.predict_beta(law, *grid.values())
  rows = {column: np.repeat(grid[x], problems) for x, column in joint.COLUMNS.items()}
  chance = rng.beta(np.repeat(a, problems), np.repeat(b, problems))
  rows |= {'problem': np.tile(np.arange(problems), len(a)), 'c': rng.binomial(n, chance), 'n': n}
  return pd.DataFrame(rows), law, grid


def test_a_planted_effect_of_pretraining_is_recovered():
  table, law, _ = of_bases()
  fit = joint.fit_joint(table, bootstrap=100)
  assert fit.basis.mean == ('1', 'N', 'D', 'C', 'P', 'N*D', 'N*P', 'D*P')
  assert fit.basis.dispersion == ('1', 'N', 'D', 'C', 'P') and fit.basis.least['P'] == 2e5
  planted = OF_BASES | {'dispersion P': 0.2, 'dispersion N': 0.0, 'dispersion D': 0.0}
  for name, value in planted.items():
    low, high = fit.intervals[name]
    assert low - (high - low) / 2 < value < high + (high - low) / 2, name
    assert high - low < 0.35, name
  # of a base that was not measured, at a size and tokens of SFT between those that were
  at = (2e5, 1.6e6, 3e5, 0.0, np.array([1, 8, 64]))
  value, low, high = joint.predict_pass_at_k(fit, *at)
  expected = joint.predict_pass_at_k(law, *at)[0]
  assert value == pytest.approx(expected, abs=0.03) and np.all((low < expected) & (expected < high))
  # a law of N, D and C alone misses what the bases differ by
  blind = joint.fit_joint(table, mean_terms=tuple(MEAN), dispersion_terms=('1',), bootstrap=0)
  assert blind.misfit > 2 * fit.misfit


def test_the_corner_has_all_bases_and_the_neighbour_of_each_is_its_own():
  table, _, _ = of_bases()
  held = joint.heldout(table, ks=(1, 8), bootstrap=20)
  # Fitted: 2 sizes x 4 bases x 2 budgets and 2 cells with RL. Held out: 4 bases and 2 with RL.
  assert (held.fitted_cells, held.heldout_cells) == (18, 6)
  assert set(held.table['P']) == set(BASES)
  assert 'P' in held.terms and held.left_out == ('N*D', 'N*C', 'D*C', 'N*P', 'D*P')
  assert held.error['joint'] < held.error['naive']
  at = 'params_non_embedding == 1e5 and sft_tokens == 4e5 and rl_flops == 0 and pretrain_tokens == '
  for _, row in held.table[(held.table['C'] == 0) & (held.table['k'] == 1)].iterrows():
    assert row['naive'] == pytest.approx(table.query(at + str(row['P'])).eval('c / n').mean())


def test_pretraining_that_does_not_vary_is_no_variable(study):
  """From scratch, or from one base: the same law, to the last bit."""
  fit = joint.fit_joint(study, bootstrap=10)
  scratch = joint.fit_joint(study.assign(pretrain_tokens=0), bootstrap=10)
  assert scratch.mean == fit.mean and np.array_equal(scratch.samples, fit.samples)
  assert not any('P' in term for term in (*fit.mean, *fit.dispersion))
  at = (1e5, 4e5, 0.0, 8)
  of = lambda law, P: joint.predict_pass_at_k(law, at[0], P, *at[1:])
  assert np.array_equal(of(fit, BASE), of(scratch, 0.0))
  with pytest.raises(BadInput, match='pretrain_tokens did not vary'):
    of(fit, 2 * BASE)


def test_one_base_of_each_size_is_not_told_from_size(study):
  size = study['params_non_embedding']
  of_size = study.assign(pretrain_tokens=np.select([size < 5e4, size < 2e5], [9e5, 2e5], 4e6))
  fit, same = (joint.fit_joint(t, bootstrap=0) for t in (of_size, study))
  assert fit.mean == same.mean and fit.dispersion == same.dispersion


def test_majority_law_of_bases():
  _, _, grid = of_bases()
  mean = {'1': -0.5, 'N': 0.8, 'D': 0.6, 'C': 0.4, 'P': 0.5, 'D*P': -0.3, 'k': 0.5, 'P*k': 0.1}
  ks = np.array([1.0, 4, 16])
  rows = {x: np.repeat(v, len(ks)) for x, v in grid.items()} | {'k': np.tile(ks, len(grid['N']))}
  basis = regression.make_basis(rows, tuple(mean), ())
  law = joint.JointFit(basis, mean, {}, {}, np.zeros((0, len(mean))), np.nan, np.nan, 0)
  value = joint.predict_majority(law, *rows.values())[0]
  stderr = np.sqrt(value * (1 - value) / 400)
  noisy = np.clip(value + np.random.default_rng(0).normal(size=len(value)) * stderr, 0, 1)
  table = pd.DataFrame({column: rows[x] for x, column in joint.COLUMNS.items()} | {'k': rows['k']})
  table = table.assign(value=noisy, stderr=stderr, problems=400)
  fit = joint.fit_majority(table)
  for term in fit.mean:
    low, high = fit.intervals[term]
    assert low - (high - low) / 2 < mean.get(term, 0.0) < high + (high - low) / 2, term
  held = joint.heldout_majority(table)
  assert set(held.table['P']) == set(BASES) and held.error['joint'] < held.error['naive']


@pytest.mark.parametrize(
  'change,message',
  [
    (lambda t: t.drop(columns='sft_tokens'), "column 'sft_tokens' is not there; there are problem"),
    (lambda t: t.assign(sft_tokens=0), "column 'sft_tokens', row 0: 0 has no log"),
    (lambda t: t.assign(rl_flops=-1.0), "column 'rl_flops', row 0: -1 has no log"),
    (lambda t: t.drop(columns='pretrain_tokens'), "column 'pretrain_tokens' is not there"),
    (lambda t: t.assign(pretrain_tokens=-1), "column 'pretrain_tokens', row 0: -1 has no log"),
    (lambda t: t.assign(c=t['c'].astype(object).where(t.index != 3, 'x')), "'c', row 3: x is not"),
    (lambda t: t.assign(c=t['c'].where(t.index != 7, 99)), 'row 7: 99 correct of 64 drawn'),
    (lambda t: t.head(0), 'the table of cells is empty'),
    (lambda t: t[t['params_non_embedding'] == 1e5], 'a held-out corner needs 2 and 1'),
    (lambda t: t[t['params_non_embedding'] > 3e4], 'params_non_embedding did not vary'),
  ],
)
def test_bad_input_is_one_line(study, change, message):
  with pytest.raises(BadInput, match=message) as error:
    joint.heldout(change(study), bootstrap=0)
  assert '\n' not in str(error.value)


def test_majority_bad_input_is_one_line():
  table, _ = majority_rows()
  for column, value in (('value', 1.5), ('k', 0.5), ('problems', 0)):
    with pytest.raises(BadInput, match=f"column '{column}', row 0"):
      joint.fit_majority(table.assign(**{column: value}), bootstrap=0)
