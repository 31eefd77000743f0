"""The frontier: totals, the best split by brute force, and the winner's curse."""

import numpy as np
import pandas as pd
import pytest
import synthetic
from scipy import stats

from analysis import frontier, plan_words, planning, tables
from analysis.errors import BadInput
from analysis.frontier import Measured, Quality
from analysis.joint import fit_majority, predict_majority

SMALL = synthetic.Truth(problems=16, samples=16, sizes=('75k', '150k'), budgets=(1e5, 4e5, 1.6e6))


@pytest.fixture(scope='module')
def study(tmp_path_factory):
  return tables.read(synthetic.write(tmp_path_factory.mktemp('study') / 'w', SMALL))


@pytest.fixture(scope='module')
def quality(study):
  return frontier.qualities(study)


def test_totals_are_training_plus_queries(study, quality):
  table = frontier.measured(quality, queries=1e4, pretraining='counted').table
  row = table[(table['k'] == 4) & (table['rl_updates'] == 20) & (table['model'] == '150k')].iloc[0]
  records = study.records
  cell = records[(records['metric'] == 'accuracy') & (records['strategy'] == 'majority')]
  cell = cell[(cell['k'] == 4) & (cell['rl_updates'] == 20) & (cell['model'] == '150k')]
  cell = cell[cell['sft_tokens'] == row['sft_tokens']].iloc[0]
  query = cell['query_prefill_flops'] + cell['query_decode_flops']
  train = cell['pretrain_flops'] + cell['sft_flops'] + cell['rl_flops']
  assert row['total'] == pytest.approx(train + 1e4 * query)
  sunk = frontier.measured(quality, queries=1e4, pretraining='sunk').table
  same = sunk[(sunk[frontier.SPLIT] == row[frontier.SPLIT]).all(axis=1)].iloc[0]
  assert same['total'] == pytest.approx(row['total'] - cell['pretrain_flops'])
  shares = table[[f'share_{stage}' for stage in frontier.STAGES]].sum(axis=1)
  np.testing.assert_allclose(shares, 1)


def test_one_vote_is_pass_at_1_and_the_oracle_bounds_the_vote(study, quality):
  table = frontier.measured(quality, 1e4).table
  one = table[table['k'] == 1]
  np.testing.assert_allclose(one['quality'], one['oracle'])
  assert (table['oracle'] >= table['quality'] - 1e-9).all()
  assert (table['quality_low'] <= table['quality']).all()
  assert (table['quality'] <= table['quality_high']).all()
  counts = study.counts
  cell = counts[(counts['model'] == '75k') & (counts['sft_tokens'] == 1e5)]
  found = one[(one['model'] == '75k') & (one['sft_tokens'] == 1e5)]['quality'].iloc[0]
  assert found == pytest.approx((cell['c'] / cell['n']).mean())


def test_pareto_against_brute_force():
  rng = np.random.default_rng(0)
  table = pd.DataFrame({'total': rng.integers(1, 30, 60), 'quality': rng.random(60)})
  kept = frontier.pareto(table)
  beaten = lambda a, b: b['total'] <= a['total'] and b['quality'] > a['quality']
  rows = [row for _, row in table.iterrows()]
  expected = [row['quality'] for row in rows if not any(beaten(row, other) for other in rows)]
  assert sorted(expected) == pytest.approx(list(kept['quality']))
  assert kept['total'].is_monotonic_increasing


def test_best_at_takes_the_best_affordable(quality):
  measured = frontier.measured(quality, 1e4)
  table = measured.table
  budgets = [table['total'].min() * 0.5, *frontier.default_budgets(table)]
  best = frontier.best_at(measured, budgets)
  assert best['affordable'].iloc[0] == 0 and np.isnan(best['quality'].iloc[0])
  for _, row in best.iloc[1:].iterrows():
    fits = table[table['total'] <= row['budget']]
    assert row['in_sample'] == pytest.approx(fits['quality'].max())
    assert row['total'] <= row['budget']
    assert row['low'] <= row['quality'] <= row['high']


def test_of_splits_that_print_the_same_the_cheapest_is_best():
  values = np.tile([[0.5], [0.9898], [0.9999], [1.0]], (1, 40))[:, None]
  table = pd.DataFrame({'total': [1.0, 10.0, 100.0, 1e4], 'quality': values.mean((1, 2))})
  best = frontier.best_at(Measured(table, values, 1.0, 'sunk'), [1.0, 50.0, 1e6])
  assert list(best['total']) == [1.0, 10.0, 100.0]
  assert frontier.default_budgets(table)[-1] == 100.0  # not what buys the last hundredth of a point


def test_cross_fit_undoes_the_winners_curse():
  """60 splits that are all equally good: the naive maximum is too high, the cross-fit is not."""
  rng = np.random.default_rng(1)
  naive, crossed = [], []
  for _ in range(20):
    values = rng.binomial(1, 0.5, (60, 1, 40)).astype(float)
    table = pd.DataFrame({'total': np.ones(60), 'quality': values.mean((1, 2))})
    row = frontier.best_at(Measured(table, values, 1.0, 'sunk'), [1.0]).iloc[0]
    naive.append(row['in_sample'])
    crossed.append(row['quality'])
  assert np.mean(naive) > 0.64
  assert abs(np.mean(crossed) - 0.5) < 0.03


def test_seeds_widen_the_band():
  """Two seeds whose problems are all alike: the band is Student's, and a share stays one."""
  splits = pd.DataFrame({'model': ['25k'], 'k': [1], 'seeds': [2], 'problems': [50]})
  splits['pretrain_tokens'] = 0.0
  costs = 'pretrain_flops', 'sft_flops', 'rl_flops', 'query_prefill_flops', 'query_decode_flops'
  for column in costs:
    splits[column] = 1.0
  of_seeds = lambda *each: np.stack([np.full((1, 50), x) for x in each], axis=1)
  near, far = of_seeds(0.39, 0.41), of_seeds(0.2, 0.6)
  row = frontier.measured(Quality(splits, near, far), 1.0).table.iloc[0]
  known = stats.t.interval(0.95, 1, loc=0.4, scale=stats.sem([0.39, 0.41]))
  for name in ('quality', 'hull'):
    assert (row[f'{name}_low'], row[f'{name}_high']) == pytest.approx(known)
  assert (row['oracle_low'], row['oracle_high']) == (0, 1)


def test_predicted_stays_within_budget_and_marks_extrapolation(quality):
  from analysis.interpret import majority_rows

  law = fit_majority(majority_rows(quality), bootstrap=10)
  table = frontier.measured(quality, 1e4).table
  budgets = [table['total'].median(), 100 * table['total'].max()]
  best = frontier.predicted(frontier.problem(law, quality, 1e4), budgets)
  inside = best[best['inside']]
  assert not inside['extrapolated'].any()
  assert (best['total'] <= best['budget'] * (1 + 1e-9)).all()
  for column in ('params_non_embedding', 'sft_tokens', 'k'):
    assert (inside[column] <= quality.splits[column].max() * 1.001).all()
  free = best[~best['inside']].iloc[-1]
  assert free['extrapolated']
  assert free['quality'] >= inside.iloc[-1]['quality']
  N, D, C, k = (free[c] for c in ('params_non_embedding', 'sft_tokens', 'rl_flops', 'k'))
  assert predict_majority(law, N, SMALL.bases[0], D, C, k)[0] == pytest.approx(free['quality'])


def test_the_law_is_searched_within_the_stretch_alone(quality):
  from analysis.interpret import majority_rows

  law = fit_majority(majority_rows(quality), bootstrap=0)
  budgets = np.geomspace(1e8, 1e20, 9)
  best = frontier.predicted(frontier.problem(law, quality, 1e4), budgets)
  best = best[best['affordable']]
  for column in ('params_non_embedding', 'sft_tokens', 'k'):
    low, high = quality.splits[column].min(), quality.splits[column].max()
    assert best[column].between(low / 2.001, high * 2.001).all(), column
  assert (best['rl_flops'] <= 2.001 * quality.splits['rl_flops'].max()).all()


BASES = SMALL._replace(bases=(0.0, 1e5, 4e5, 1.6e6), per_log_base=0.8, rl_gain={})


@pytest.fixture(scope='module')
def of_bases(tmp_path_factory):
  """Splits of several bases, one without pretraining, and their law."""
  from analysis.interpret import majority_rows

  study = tables.read(synthetic.write(tmp_path_factory.mktemp('bases') / 'w', BASES))
  quality = frontier.qualities(study)
  return quality, fit_majority(majority_rows(quality), bootstrap=5)


@pytest.mark.parametrize('pretraining', ['sunk', 'counted'])
def test_the_law_s_base_against_brute_force(of_bases, pretraining):
  """Over every base, size and k on a fine grid, with the tokens that the rest of the budget buys at
  the prices of the synthetic study: 6 N a token, 2 N a token of a query."""
  quality, law = of_bases
  splits = quality.splits
  assert 'P' in law.mean and law.basis.least['P'] == 1e5
  queries, budgets = 1e3, np.geomspace(1e11, 3e12, 4)
  problem = frontier.problem(law, quality, queries, pretraining)
  best = frontier.predicted(problem, budgets)
  inside = best[best['inside']].reset_index(drop=True)
  N = np.geomspace(75e3, 150e3, 80)[:, None, None]
  P = np.concatenate([[0.0], np.geomspace(1e5, 1.6e6, 120)])[None, :, None]
  k = np.arange(1.0, splits['k'].max() + 1)
  prefill, decode = (  # of one size, which all are proportional to
    splits.loc[splits['model'] == '75k', c].mean() / 75e3
    for c in ('query_prefill_flops', 'sample_decode_flops')
  )
  for _, row in inside.iterrows():
    spent = queries * N * (prefill + decode * k) + (6 * N * P if pretraining == 'counted' else 0)
    D = (row['budget'] - spent) / (6 * N)
    D = np.where(D >= 1e5, np.clip(D, 1e5, 1.6e6), np.nan)
    value = np.nan_to_num(predict_majority(law, N, P, D, 0.0, k)[0])
    assert row['quality'] == pytest.approx(value.max(), rel=0.01)
    assert row['quality'] > value.max() - 2e-4
  if pretraining == 'sunk':  # the best base there is, and never one beyond
    assert (best['pretrain_tokens'] == 1.6e6).all() and best['extrapolated'].any()
  else:
    assert inside['pretrain_tokens'].iloc[0] < 4e5 < inside['pretrain_tokens'].iloc[-1]
    assert best['pretrain_tokens'].max() > 1.6e6 * 1.5


def test_measured_bases_cost_what_the_problem_says(of_bases):
  quality, law = of_bases
  table = frontier.measured(quality, 1.0, 'counted').table
  problem = frontier.problem(law, quality, 1.0, 'counted')
  for _, row in table.iterrows():
    N, P, k = (row[c] for c in ('params_non_embedding', 'pretrain_tokens', 'k'))
    token, once, query = problem.costs(N, P, 0.0, k)
    assert once == pytest.approx(row['pretrain_flops'])
    assert token * row['sft_tokens'] + once + query == pytest.approx(row['total'], rel=1e-3)
  assert [region.P for region in problem.regions] == [(0.0, 0.0), (1e5, 1.6e6)]


def test_one_base_is_no_choice(quality):
  from analysis.interpret import majority_rows

  law = fit_majority(majority_rows(quality), bootstrap=0)
  problem = frontier.problem(law, quality, 1e4)
  assert all(region.P == (0.0, 0.0) for region in problem.regions)
  assert 'P' not in plan_words.varied(problem)
  assert 'pretrain_tokens' not in frontier.predicted(problem, [1e12])


def test_no_split_is_the_best_where_none_solves_anything(quality):
  nothing = quality._replace(majority=0 * quality.majority, oracle=0 * quality.oracle)
  points = frontier.measured(nothing, 1e4)
  best = frontier.best_at(points, [1.0, *frontier.default_budgets(points.table)])
  assert frontier.solving(best).empty
  some = frontier.measured(quality, 1e4)
  best = frontier.best_at(some, [1.0, 1e20])
  assert list(frontier.solving(best)['budget']) == [1e20]
  assert frontier.solving(frontier.best_at(some, [1.0])).empty
  # One problem, solved once: a choice made on the half without it is as good as none.
  values = np.zeros((2, 1, 128))
  values[1, 0, 5] = 1.0
  table = pd.DataFrame({'total': [1.0, 2.0], 'quality': values.mean((1, 2))})
  best = frontier.best_at(Measured(table, values, 1.0, 'sunk'), [3.0])
  assert best['in_sample'].iloc[0] > frontier.FLOOR and frontier.solving(best).empty


def test_measured_costs_are_met_by_the_problem(quality):
  """At a measured size, tokens and k the law's problem costs what the study did, in FLOPs and in
  seconds."""
  from analysis.interpret import majority_rows

  law = fit_majority(majority_rows(quality), bootstrap=0)
  rates = planning.Rates(train=4e12, prefill=3e12, decode=1e11)
  for pretraining in ('sunk', 'counted'):
    for given in (None, rates):
      table = frontier.measured(quality, 1e4, pretraining, given).table
      problem = frontier.problem(law, quality, 1e4, pretraining, given)
      for _, row in table[table['sft_tokens'] == 1.6e6].iterrows():
        token, once, query = problem.costs(
          row['params_non_embedding'], 0.0, row['rl_flops'], row['k']
        )
        total = token * row['sft_tokens'] + once + 1e4 * query
        assert total == pytest.approx(row['total'], rel=0.02)


def test_seconds_weigh_decoding(study, quality):
  """With a rate for each kind the total is the sum of seconds; RL's rollouts count as decoding."""
  rates = planning.Rates(train=2.0, prefill=1.0, decode=0.1, price=7200.0)
  flops, money = (frontier.measured(quality, 10.0, 'counted', r).table for r in (None, rates))
  keys = frontier.SPLIT
  both = flops.merge(money, on=keys, suffixes=('', '_money'))
  row = both[(both['rl_updates'] > 0) & (both['k'] == 4)].iloc[0]
  spent = study.ledger[study.ledger['stage_kind'] == 'rl'].groupby('kind')['model'].sum()
  spent = spent / spent.sum()
  rest = 1 - spent['prefill'] - spent['decode']
  rl = row['rl_flops'] * (rest / 2 + spent['prefill'] + spent['decode'] / 0.1)
  query = row['query_prefill_flops'] + row['query_decode_flops'] / 0.1
  seconds = (row['pretrain_flops'] + row['sft_flops']) / 2 + rl + 10 * query
  assert row['total_money'] == pytest.approx(2 * seconds)
  assert frontier.measured(quality, 1.0, 'sunk', rates).unit == '$'


def test_the_hull_and_its_band(quality):
  table = frontier.measured(quality, 1e4).table
  np.testing.assert_allclose(table['hull'], np.maximum.accumulate(table['quality']))
  assert (np.diff(table['hull_low']) >= 0).all() and (np.diff(table['hull_high']) >= 0).all()
  assert (table['hull_high'] >= table['quality_high'] - 1e-12).all()


def test_bad_input(study, quality):
  with pytest.raises(BadInput, match="'sunk' or 'counted'"):
    frontier.measured(quality, 1.0, 'free')
  with pytest.raises(BadInput, match='no rollout bank'):
    frontier.qualities(study._replace(counts=pd.DataFrame()))
