"""Strategies of a bank against lists of all subsets, and the cost of each."""

import itertools

import numpy as np
import pandas as pd
import pytest

from analysis import strategies
from analysis.errors import BadInput

KS = [1, 2, 3]


def table(seed=0, P=3, n=5):
  rng = np.random.default_rng(seed)
  rows = []
  for p in range(P):
    for s in range(n):
      answer = rng.choice(['1', '2', '3', None], p=[0.4, 0.3, 0.1, 0.2])
      length = int(rng.integers(2, 6))
      rows.append(
        dict(problem=f'p{p}', sample=s, answer=answer, correct=answer == '2', length=length)
        | dict(logprobs=-rng.uniform(0.1, 2, length), prompt_tokens=4 + p, prefill_flops=10.0 + p)
        | dict(decode_flops=3.0 * length)
      )
  return pd.DataFrame(rows)


def scores_of(bank, seed=1):
  """Scores with ties, and steps whose last is the score."""
  rng = np.random.default_rng(seed)
  steps = [rng.integers(1, 5, rng.integers(1, 4)) / 5 for _ in range(len(bank))]
  last = [s[-1] for s in steps]
  return bank[['problem', 'sample']].assign(score=last, steps=steps, flops=7.0)


def brute(bank, choose, k):
  """The mean over all subsets of k of each problem of choose(subset)."""
  return [
    np.mean([choose(list(subset)) for subset in itertools.combinations(rows.to_dict('records'), k)])
    for _, rows in bank.groupby('problem')
  ]


def best_by(score):
  def choose(subset):
    answered = [s for s in subset if isinstance(s['answer'], str)]
    if not answered:
      return 0.0
    top = max(s[score] for s in answered)
    return np.mean([s['correct'] for s in answered if s[score] == top])

  return choose


def vote_by(score):
  def choose(subset):
    sums = {}
    for s in subset:
      if isinstance(s['answer'], str):
        sums[s['answer']] = sums.get(s['answer'], 0.0) + s[score]
    top = [a == '2' for a, total in sums.items() if np.isclose(total, max(sums.values()))]
    return np.mean(top) if top else 0.0

  return choose


def values(outcomes, strategy, k):
  rows = outcomes[(outcomes['strategy'] == strategy) & (outcomes['k'] == k)]
  return rows.sort_values('problem')['value'].to_numpy()


@pytest.mark.parametrize('k', KS)
def test_strategies_without_a_scorer_against_all_subsets(k):
  bank = table().assign(one=1.0)
  bank['mean'] = [x.mean() for x in bank['logprobs']]
  shuffled = bank.sample(frac=1, random_state=0)
  found = strategies.bank_outcomes(shuffled, KS, 'sample-1')
  assert list(found.columns) == list(strategies.OUTCOMES) and len(found) == 3 * 3 * 3
  any_right = lambda subset: any(s['correct'] for s in subset)
  assert values(found, 'oracle', k) == pytest.approx(brute(bank, any_right, k))
  assert values(found, 'majority', k) == pytest.approx(brute(bank, vote_by('one'), k))
  assert values(found, 'logprob', k) == pytest.approx(brute(bank, best_by('mean'), k))


@pytest.mark.parametrize('k', KS)
@pytest.mark.parametrize('how', strategies.AGGREGATES)
def test_prm_scores_are_put_together_as_asked(how, k):
  """Not 'last' whatever is asked: each aggregate against its own formula, over all subsets."""
  bank = table(2)
  scores = scores_of(bank)
  formula = {'last': lambda s: s[-1], 'min': min, 'mean': lambda s: sum(s) / len(s)}
  formula['product'] = lambda s: np.prod(s)
  bank['score'] = [formula[how](list(s)) for s in scores['steps']]
  found = strategies.scorer_outcomes(bank, scores, KS, 'score-1', 'preference-1', 'process')
  assert values(found, f'prm_{how}', k) == pytest.approx(brute(bank, best_by('score'), k))
  assert values(found, f'weighted_prm_{how}', k) == pytest.approx(brute(bank, vote_by('score'), k))


def test_the_aggregates_are_four_different_things():
  steps = [[0.9, 0.2, 0.6]]
  got = {how: strategies.aggregate(steps, how)[0] for how in strategies.AGGREGATES}
  assert got == pytest.approx({'last': 0.6, 'min': 0.2, 'product': 0.108, 'mean': 1.7 / 3})
  assert strategies.aggregate([[]], 'min')[0] == 0
  with pytest.raises(BadInput, match='use one of last, min, product, mean'):
    strategies.aggregate(steps, 'sum')


def test_an_outcome_scorer_ranks_and_weighs_whatever_order_its_scores_have():
  bank = table(3)
  scores = scores_of(bank)
  bank['score'] = scores['score']
  mixed = scores.sample(frac=1, random_state=1)
  found = strategies.scorer_outcomes(bank, mixed, KS, 'score-1', 'preference-1', 'outcome')
  assert set(found['strategy']) == {'best_of_outcome', 'weighted_outcome'}
  assert set(found['scorer']) == {'preference-1'}
  assert values(found, 'best_of_outcome', 2) == pytest.approx(brute(bank, best_by('score'), 2))
  assert values(found, 'weighted_outcome', 3) == pytest.approx(brute(bank, vote_by('score'), 3))
  with pytest.raises(BadInput, match="1 of 15 samples have none, the first problem 'p0' sample 0"):
    strategies.scorer_outcomes(bank, scores.iloc[1:], KS, 's', 'p', 'outcome')


def test_the_cost_is_one_prompt_and_k_mean_responses_and_scores():
  bank = table()
  found = strategies.scorer_outcomes(bank, scores_of(bank), KS, 's', 'p', 'outcome')
  row = found[(found['problem'] == 'p1') & (found['k'] == 3)].iloc[0]
  mean = bank[bank['problem'] == 'p1']['length'].mean()
  assert (row['samples'], row['prefill_tokens'], row['prefill_flops']) == (3, 5, 11)
  assert row['decode_tokens'] == pytest.approx(3 * mean)
  assert row['decode_flops'] == pytest.approx(9 * mean) and row['scorer_flops'] == 21


def test_the_summary_is_over_problems_of_the_mean_over_runs():
  found = strategies.bank_outcomes(table(), KS, 's')
  beam = found[found['strategy'] == 'oracle'].assign(strategy='beam')
  both = pd.concat([found, beam, beam.assign(run=1, value=0.0)])
  rows = {(r['strategy'], r['k']): r for r in strategies.summary(both)}
  half = values(beam, 'beam', 2) / 2
  assert rows['beam', 2]['value'] == pytest.approx(half.mean())
  assert rows['beam', 2]['stderr'] == pytest.approx(half.std(ddof=1) / np.sqrt(3))
  assert rows['majority', 2]['query_prefill_flops'] == 11 and rows['majority', 2]['problems'] == 3
  with pytest.raises(BadInput, match='a problem and run twice'):
    strategies.summary(pd.concat([found, found]))


def test_unequal_banks_are_refused_and_those_without_log_probs_are_not():
  with pytest.raises(BadInput, match="problem 'p2' has 4 samples, others 5"):
    strategies.pool(table().iloc[:-1])
  found = strategies.bank_outcomes(table().drop(columns='logprobs'), KS, 's')
  assert set(found['strategy']) == {'oracle', 'majority'}
