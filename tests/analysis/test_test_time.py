"""Compute-optimal test time: no gain where there is none to have, and the planted one found."""

import json

import numpy as np
import pandas as pd
import pytest
import synthetic

from analysis import strategies, tables, test_time
from analysis.errors import BadInput


def bank(chance, n=32, seed=0, decoys=1):
  """A bank of problems with these chances of a right answer, and `decoys` wrong answers each."""
  rng = np.random.default_rng(seed)
  P = len(chance)
  right = rng.uniform(size=(P, n)) < np.array(chance)[:, None]
  wrong = rng.integers(1, decoys + 1, (P, n))
  answer = np.where(right, 0, wrong).ravel().astype(str)
  return pd.DataFrame(
    {
      'problem': np.repeat([f'p{i}' for i in range(P)], n),
      'sample': np.tile(np.arange(n), P),
      'answer': answer,
      'correct': right.ravel(),
      'logprobs': list(-rng.uniform(size=(P * n, 3))),
      'length': 3,
      'prompt_tokens': 4,
      'prefill_flops': 1.0,
      'decode_flops': 10.0,
    }
  )


def leaky(table, **options):
  """Arms whose difficulty is estimated from the half that they are evaluated on."""
  found = test_time.arms(table, **options)
  swapped = found.difficulty.reshape(-1, 2, found.difficulty.shape[1])[:, ::-1]
  return found._replace(difficulty=swapped.reshape(found.difficulty.shape))


def test_without_an_effect_only_a_naive_choice_gains():
  """All problems are even between two answers: no strategy or k is better than another."""
  gains, naive, leaks = [], [], []
  for seed in range(8):
    table = bank([0.5] * 60, seed=seed)
    options = dict(folds=4, bootstrap=2)
    budget = [1 + 10 * 4.0]
    found = test_time.compute_optimal([test_time.arms(table)], budget, **options)
    gains.append(found['gain_best_of_n'][0])
    naive.append(found['in_sample_gain'][0])
    leaks.append(test_time.compute_optimal([leaky(table)], budget, **options)['gain_best_of_n'][0])
  error = lambda values: np.std(values, ddof=1) / np.sqrt(len(values))
  assert abs(np.mean(gains)) < 2.5 * error(gains) and np.mean(gains) < 0.01
  assert np.mean(naive) > 4 * error(naive)  # chosen and scored on the same problems
  assert np.mean(leaks) > 4 * error(leaks)  # difficulty of the samples it is scored on


def test_a_planted_gain_is_found_with_its_interval():
  """Easy problems gain by votes, hard ones (a decoy beats the truth) lose by them."""
  table = bank([0.8] * 40 + [0.3] * 40, n=64, seed=3)
  found = test_time.arms(table)
  result = test_time.compute_optimal([found], [1 + 10 * 8.0]).iloc[0]
  assert result['gain_majority'] > 0.04
  assert result['gain_majority_low'] > 0 and result['gain_uniform_low'] > 0
  assert result['gain_majority_low'] <= result['gain_majority'] <= result['gain_majority_high']
  chosen = test_time.choices(found, 1 + 10 * 8.0)
  assert chosen['pass_rate'].is_monotonic_increasing and chosen['problems'].sum() == 80
  assert chosen.iloc[-1]['strategy'] == 'majority' and chosen.iloc[-1]['k'] == 8
  assert not (chosen.iloc[0]['strategy'] == 'majority' and chosen.iloc[0]['k'] == 8)
  assert result['flops'] <= 1 + 10 * 8.0


def test_arms_are_measured_on_the_half_that_difficulty_did_not_see():
  table = bank([0.2, 0.5, 0.9], n=8, seed=1)
  found = test_time.arms(table, ks=[1, 2], halvings=3)
  right = table['correct'].to_numpy().reshape(3, 8).mean(axis=1)
  assert found.values.shape == (6, 4, 3) and found.difficulty.shape == (6, 3)
  once = found.values[:, found.table.eval("strategy == 'majority' and k == 1").to_numpy()][:, 0]
  np.testing.assert_allclose((once + found.difficulty) / 2, np.tile(right, (6, 1)))
  assert list(found.costs[:, 0]) == [11, 21, 11, 21]


def test_scorers_and_generated_strategies_are_arms_with_their_cost():
  table = bank([0.3, 0.6, 0.6, 0.9], n=16, seed=2)
  scores = table[['problem', 'sample']].assign(
    score=table['correct'] * 0.8 + 0.1, flops=5.0, prompt_flops=3.0
  )
  shuffled = scores.sample(frac=1, random_state=0)
  beam = pd.DataFrame(
    {'problem': table['problem'].unique(), 'strategy': 'beam', 'scorer_name': '25k', 'k': 4}
    | {'value': 1.0, 'prefill_flops': 1.0, 'decode_flops': 7.0, 'scorer_flops': 2.0}
  )
  lacking = beam.assign(strategy='dvts').iloc[1:]
  hears = ('oracle', 'episodes', 'episodes(environment=verdict)')  # what is right
  told = [beam.assign(strategy=name) for name in hears]
  found = test_time.arms(
    table,
    [test_time.Scored('25k', 'outcome', shuffled)],
    pd.concat([beam, lacking, *told]),
    ks=[2],
  )
  costs = dict(zip(found.table['strategy'], found.costs[:, 0], strict=True))
  assert costs == {
    'majority': 21, 'logprob': 21, 'best_of_outcome': 34, 'weighted_outcome': 34, 'beam': 10
  }  # fmt: skip
  best = found.table['strategy'].eq('best_of_outcome').to_numpy()
  pool = strategies.pool(table)
  exact = strategies.oracle(pool, [2]).mean()  # a scorer that knows the verdicts
  assert found.values[:, best].mean() == pytest.approx(exact, abs=0.03)
  with pytest.raises(BadInput, match='16 of 64 samples have none'):
    test_time.arms(table, [test_time.Scored('25k', 'outcome', scores.iloc[16:])])


def test_the_richest_cell_is_not_chosen_by_what_hears_verdicts():
  cell = dict.fromkeys(test_time.CELL, 1) | {'model': '25k'}
  rows = [
    cell | {'sft_tokens': tokens, 'strategy': strategy, 'value': value}
    for tokens, votes, told in ((1, 0.5, 0.6), (2, 0.4, 0.9))
    for strategy, value in (('majority', votes), ('episodes(environment=hints)', told))
  ]
  assert set(test_time.richest(pd.DataFrame(rows))['sft_tokens']) == {1}


def test_best_of_n_takes_the_largest_k_that_the_budget_buys():
  table = bank([0.9] * 4 + [0.1] * 4, n=64, seed=5)
  found = test_time.arms(table)
  everything = np.ones((1, 8), bool)
  for budget, k in ((11.0, 1), (80.9, 4), (81.0, 8)):
    scored = test_time.policy(found, [budget], everything)
    arm = found.table.eval(f"strategy == 'majority' and k == {k}").to_numpy()
    assert scored.baselines['majority'][0].mean() == pytest.approx(found.values[:, arm].mean())
  assert np.isnan(test_time.policy(found, [5.0], everything).adaptive).all()


def test_outcomes_are_loaded_with_their_cell_and_averaged_over_runs(tmp_path):
  truth = synthetic.Truth(problems=8, samples=8, sizes=('25k',), budgets=(1e5,), updates=())
  workdir = synthetic.write(tmp_path / 'w', truth._replace(rl_gain={}, seeds=(0, 1)))
  with pytest.raises(BadInput, match='no outcomes of strategies'):
    test_time.load_outcomes(workdir)
  plan = tables.read(workdir).plan
  for stage in [s for s in plan['stages'] if s['kind'] == 'sample']:
    rows = tables.load_bank(workdir)
    found = strategies.bank_outcomes(rows[rows['stage'] == stage['id']], [1, 2], stage['id'])
    repeat = found[found['strategy'] == 'majority'].assign(strategy='beam', value=0.25)
    again = repeat.assign(run=1, value=0.75)
    out = pd.concat([found, repeat, again]).drop(columns='error')
    out.to_parquet(workdir / 'stages' / stage['id'] / 'outcomes.parquet')
  outcomes = test_time.load_outcomes(workdir)
  assert set(outcomes['seed']) == {0, 1} and set(outcomes['model']) == {'25k'}
  table = test_time.quality(outcomes).set_index(['strategy', 'k'])
  assert (table['seeds'] == 2).all() and (table['problems'] == 8).all()
  beam = table.loc[('beam', 2)]
  assert beam['value'] == beam['low'] == beam['high'] == 0.5
  records = tables.load(workdir).query("metric == 'accuracy' and k == 1 and strategy == 'oracle'")
  once = table.loc[('majority', 1)]
  assert once['value'] == pytest.approx(records['value'].mean())
  assert once['low'] < once['value'] < once['high']
  two = table.loc[('oracle', 2)]
  assert two['flops'] == two['prefill_flops'] + two['decode_flops'] > once['flops']


def test_two_scorers_of_one_size_are_told_apart(tmp_path):
  truth = synthetic.Truth(problems=4, samples=4, sizes=('25k',), budgets=(1e5,), rl_gain={})
  workdir = synthetic.write(tmp_path / 'w', truth)
  path = workdir / 'studies' / 'synthetic.json'
  plan = json.loads(path.read_text())
  for name in ('preference-aaaa', 'preference-bbbb'):
    plan['stages'].append({'id': name, 'kind': 'preference', 'recipe': {'preset': '75k'}})
  path.write_text(json.dumps(plan))
  stage = next(s['id'] for s in plan['stages'] if s['kind'] == 'sample')
  rows = strategies.bank_outcomes(tables.load_bank(workdir), [1], stage)
  rows = rows[rows['strategy'] == 'majority']
  parts = [rows]
  for scorer in ('preference-aaaa', 'preference-bbbb'):
    parts.append(rows.assign(strategy='best_of_pairs', scorer=scorer))
  parts.append(rows.assign(strategy='best_of_outcome', scorer='preference-aaaa'))
  pd.concat(parts).to_parquet(workdir / 'stages' / stage / 'outcomes.parquet')
  found = test_time.load_outcomes(workdir).groupby('strategy')['scorer_name'].agg(set)
  assert found['majority'] == {''} and found['best_of_outcome'] == {'75k'}
  assert found['best_of_pairs'] == {'75k aaaa', '75k bbbb'}
