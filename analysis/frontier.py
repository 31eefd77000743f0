"""The frontier: what to buy with a budget of FLOPs, from measured points and from laws.

A split is (model size, SFT tokens, RL updates, k votes). Its total is training plus Q queries times
the cost of one, in model FLOPs; pretraining is 'sunk' (not counted) or 'counted'. Its quality is
deployable: the share of held-out problems that a majority vote of k samples answers right, or, in a
study that measured others, any strategy that needs no verdicts (`deployable`). The oracle, pass@k,
is the upper bound of any choice among the k.

The best of many measured points looks better than it is (winner's curse): `best_at` chooses a split
on one half of the problems and reports it on the other half.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import estimators
from analysis.errors import BadInput
from analysis.joint import JointFit, predict_majority
from analysis.tables import Study

SPLIT = ['model', 'pretrain_tokens', 'sft_tokens', 'rl_updates', 'k']
ARM = ['strategy', 'scorer_name', 'k']
STAGES = ['pretrain', 'sft', 'rl', 'sampling']
_COSTS = ['pretrain_flops', 'sft_flops', 'rl_flops', 'query_flops']
_COSTS += ['query_prefill_flops', 'sample_decode_flops']
RESAMPLES = 400
FLOOR = 1e-3  # a share of problems solved that counts as none; 0.1 points
STRETCH = 2.0  # how far beyond the measured ranges a law's choice is looked for


class Quality(NamedTuple):
  """Quality of R splits on P problems under S seeds; independent of Q and of any budget."""

  splits: pd.DataFrame  # [R]: SPLIT, sizes and costs
  majority: np.ndarray  # float64 [R, S, P]; nan where a seed has not measured the split
  oracle: np.ndarray  # float64 [R, S, P]
  seeds: tuple = ()  # [S]
  problems: tuple = ()  # [P] ids


class Measured(NamedTuple):
  """Splits with their costs at Q queries, cheapest first."""

  table: pd.DataFrame  # [R]
  majority: np.ndarray  # float64 [R, S, P]
  queries: float
  pretraining: str


def default_ks(n: int) -> list[int]:
  """1, 2, 4, … up to n / 4: beyond, subsets of one bank overlap too much."""
  return [2**i for i in range(20) if 2**i <= max(n // 4, 1)]


def qualities(study: Study, ks: Sequence[int] | None = None) -> Quality:
  """majority@k and pass@k of every split, problem and seed; exact, from the banks.

  BadInput where the study has no banks, or where its banks share no problem.
  """
  if study.counts.empty:
    raise BadInput(f'study {study.name!r} has no rollout bank; add a sample stage for a frontier')
  counts = study.counts
  ks = list(ks or default_ks(int(counts['n'].min())))
  banks = counts.drop_duplicates('bank').set_index('bank')
  problems = sorted(set.intersection(*(set(g) for _, g in counts.groupby('bank')['problem'])))
  if not problems:
    raise BadInput(f'study {study.name!r}: its banks share no problem; sample one fixed pool')
  votes = _majorities(study.votes, ks, problems)
  passes = _passes(counts, ks, problems)
  seeds = sorted(banks['seed'].unique())
  groups = banks.groupby([c for c in SPLIT if c != 'k'], sort=True)
  rows = []
  majority = np.full((len(groups) * len(ks), len(seeds), len(problems)), np.nan)
  oracle = majority.copy()
  for _, cells in groups:
    cells = cells.drop_duplicates('seed')
    for i, k in enumerate(ks):
      for bank, cell in cells.iterrows():
        majority[len(rows), seeds.index(cell['seed'])] = votes[bank][i]
        oracle[len(rows), seeds.index(cell['seed'])] = passes[bank][i]
      about = cells.iloc[0][[*SPLIT[:-1], 'params_non_embedding']].to_dict()
      costs = {c: float(cells[c].mean()) for c in _COSTS if c in cells}
      query = costs['query_prefill_flops'] + k * costs['sample_decode_flops']
      rows.append(about | {'k': k, 'seeds': len(cells)} | costs | {'query_flops': query})
  splits = pd.DataFrame(rows).assign(problems=len(problems), strategy='majority', scorer_name='')
  return Quality(splits, majority, oracle, tuple(seeds), tuple(problems))


def deployable(quality: Quality, outcomes: pd.DataFrame) -> Quality:
  """The splits of every strategy but the oracle: those of majority votes, and behind them the
  others of `outcomes` (test_time.load_outcomes), with `majority` then the values of any.

  A strategy that was not measured on all of the problems is left out. Its cost is what a query
  takes, the scorer's passes counted; what training the scorer took is not.
  """
  by_cell = quality.splits.drop_duplicates(SPLIT[:-1]).set_index(SPLIT[:-1])
  flops = sum(outcomes[f'{kind}_flops'] for kind in ('prefill', 'decode', 'scorer'))
  once = outcomes['kind'].isin(['sample', 'score']) & (outcomes['k'] == 1)  # a vote of 1
  others = outcomes.assign(flops=flops)[~outcomes['strategy'].isin(['oracle', 'majority']) & ~once]
  rows, values = [], []
  for key, group in others.groupby([*SPLIT[:-1], *ARM], sort=True):
    cell, arm = key[:4], dict(zip(ARM, key[4:], strict=True))
    table = group.pivot_table(index='seed', columns='problem', values='value')
    table = table.reindex(index=list(quality.seeds), columns=list(quality.problems))
    table = table.to_numpy(copy=True)
    there = ~np.isnan(table).any(axis=1)
    if cell not in by_cell.index or not there.any():
      continue
    table[~there] = np.nan
    query = group.groupby('problem')['flops'].mean().reindex(list(quality.problems)).mean()
    about = by_cell.loc[cell].to_dict() | dict(zip(SPLIT[:-1], cell, strict=True)) | arm
    rows.append(about | {'seeds': int(there.sum()), 'query_flops': query})
    values.append(table)
  if not rows:
    return quality
  values = np.array(values)
  return quality._replace(
    splits=pd.concat([quality.splits, pd.DataFrame(rows)], ignore_index=True),
    majority=np.concatenate([quality.majority, values]),
    oracle=np.concatenate([quality.oracle, np.where(np.isnan(values), np.nan, 0.0)]),
  )


def measured(quality: Quality, queries: float, pretraining: str = 'sunk') -> Measured:
  """Every split with train, inference and total FLOPs, quality and its 95 % band, cheapest first.

  The band resamples problems, and seeds too where there are several: it is the spread over other
  problems (and seeds) of the same kind. BadInput where `pretraining` is not 'sunk' or 'counted'.
  """
  if pretraining not in ('sunk', 'counted'):
    raise BadInput(f"pretraining={pretraining!r}: say 'sunk' or 'counted'")
  table = quality.splits.copy()
  if pretraining == 'sunk':
    table['pretrain_flops'] = 0.0
  table['train_flops'] = table[['pretrain_flops', 'sft_flops', 'rl_flops']].sum(axis=1)
  table['inference_flops'] = queries * table['query_flops']
  table['total_flops'] = table['train_flops'] + table['inference_flops']
  for stage in STAGES[:-1]:
    table[f'share_{stage}'] = table[f'{stage}_flops'] / table['total_flops']
  table['share_sampling'] = table['inference_flops'] / table['total_flops']
  _, S, P = quality.majority.shape
  seed_weights, problem_weights = resamples(S, P, RESAMPLES, seed=0)
  for name, values in (('quality', quality.majority), ('oracle', quality.oracle)):
    table[name] = np.nanmean(np.nanmean(values, axis=1), axis=1)
    draws = resampled_means(values, seed_weights, problem_weights)
    table[f'{name}_low'], table[f'{name}_high'] = np.nanquantile(draws, [0.025, 0.975], axis=0)
  order = np.argsort(table['total_flops'].to_numpy(), kind='stable')
  return Measured(
    table.iloc[order].reset_index(drop=True), quality.majority[order], queries, pretraining
  )


def pareto(table: pd.DataFrame, quality: str = 'quality') -> pd.DataFrame:
  """Rows that no cheaper row equals, cheapest first; a maximum over noisy points: optimistic."""
  table = table.sort_values(['total_flops', quality], ascending=[True, False])
  best_before = table[quality].cummax().shift(fill_value=-np.inf)
  return table[table[quality] > best_before].reset_index(drop=True)


def default_budgets(table: pd.DataFrame, number: int = 3) -> list[float]:
  """Budgets spread evenly in log FLOPs over the measured frontier, rounded up to two figures."""
  hull = pareto(table)['total_flops']
  spread = np.geomspace(hull.iloc[0], hull.iloc[-1], number + 1)[1:]
  unit = 10 ** (np.floor(np.log10(spread)) - 1)
  return list(np.ceil(spread / unit - 1e-9) * unit)


def default_queries(quality: Quality) -> float:
  """Queries at which one sample each costs what the median split's SFT and RL cost, as 10^i."""
  once = quality.splits[quality.splits['k'] == quality.splits['k'].min()]
  train = once['sft_flops'] + once['rl_flops']
  return float(10 ** np.round(np.log10(np.median(train / once['query_flops']))))


def best_at(points: Measured, budgets: Sequence[float], folds: int = 8, seed: int = 0):
  """For each budget the best affordable split: DataFrame, one row a budget.

  `solves` is False where no affordable split solves more than FLOOR: there is no best then. The
  split shown is the best on all problems, the cheapest where several tie. `quality` is
  cross-fitted: the mean over random halvings of the problems of what the choice made on one half
  scores on the other half; low, high: its 95 % interval over resampled problems (and seeds).
  `in_sample` is the naive maximum; `agreement` is how many of the halves chose the split shown.
  Rows with affordable = 0 hold nothing else.
  """
  table, values = points.table, points.majority
  _, S, P = values.shape
  rng = np.random.default_rng(seed)
  halves = [rng.permutation(P) < P // 2 for _ in range(folds)]
  halves = np.array([half for one in halves for half in (one, ~one)], float)  # [F, P]
  seed_weights, problem_weights = resamples(S, P, RESAMPLES, seed=seed + 1)
  problem_weights = problem_weights / problem_weights.sum(1, keepdims=True)
  rows = []
  for budget in budgets:
    affordable = int((table['total_flops'] <= budget * (1 + 1e-9)).sum())
    row = {'budget': float(budget), 'affordable': affordable}
    if affordable:
      best = int(np.argmax(table['quality'].to_numpy()[:affordable]))
      here = values[:affordable]
      flat = np.nanmean(here, axis=1)
      crossed, chosen = _cross_fit(flat, np.full((1, P), 1.0 / P), halves)
      draws = []
      for s, p in zip(seed_weights, problem_weights):
        resampled = flat if S == 1 else _over_seeds(here, s)
        draws.append(_cross_fit(resampled, p[None], halves[:4])[0])
      low, high = np.nanquantile(draws, [0.025, 0.975])
      row |= table.iloc[best].to_dict()
      row |= {'in_sample': row['quality'], 'quality': crossed, 'low': low, 'high': high}
      row['solves'] = bool(row['in_sample'] > FLOOR)
      row |= {'agreement': float(np.mean(chosen == best))}
    rows.append(row)
  return pd.DataFrame(rows)


def solving(best: pd.DataFrame) -> pd.DataFrame:
  """The rows of `best_at` that hold a best split."""
  if 'solves' not in best:
    return best.iloc[:0]
  return best[(best['affordable'] > 0) & best['solves'].eq(True)]


def predicted(
  law: JointFit,
  quality: Quality,
  queries: float,
  budgets: Sequence[float],
  pretraining: str = 'sunk',
  stretch: float = STRETCH,
) -> pd.DataFrame:
  """The best split of each budget by the law of majority@k, over a grid finer than the study.

  The grid reaches `stretch` times beyond the measured sizes, tokens, RL compute and k; a split
  outside of what was measured (RL: outside of the sizes and budgets that had RL) is `extrapolated`.
  Costs between sizes are interpolated in logs. Two rows a budget: the best split of all, and the
  best among those not extrapolated (`inside`). low, high: the law's own 95 % interval there.
  """
  grid = _grid(quality.splits, stretch, queries, pretraining)
  values = (grid[c].to_numpy() for c in ('params_non_embedding', 'sft_tokens', 'rl_flops', 'k'))
  grid['quality'], grid['low'], grid['high'] = predict_majority(law, *values)
  rows = []
  for budget in budgets:
    for inside in (True, False):
      fits = grid[grid['total_flops'] <= budget]
      fits = fits[~fits['extrapolated']] if inside else fits
      row = {'budget': float(budget), 'inside': inside, 'affordable': len(fits)}
      rows.append(row | (fits.loc[fits['quality'].idxmax()].to_dict() if len(fits) else {}))
  return pd.DataFrame(rows)


def _grid(splits, stretch, queries, pretraining):
  """Splits on a grid, with their costs and whether each is extrapolated."""
  splits = splits[splits['sft_tokens'] > 0]
  trained = splits[splits['rl_flops'] > 0]

  def axis(values, points):
    low, high = values.min(), values.max()
    beyond = np.geomspace(1, stretch, 3)[1:]
    inner = np.geomspace(low, high, points) if high > low else np.array([low])
    return np.concatenate([low / beyond, inner, high * beyond]) if high > low else inner

  sizes, tokens = axis(splits['params_non_embedding'], 7), axis(splits['sft_tokens'], 13)
  reinforced = axis(trained['rl_flops'], 9) if len(trained) else np.array([])
  most = splits['k'].max()
  ks = 2.0 ** np.arange(np.log2(most * stretch) + 1) if most > 1 else [1.0]
  names = ['params_non_embedding', 'sft_tokens', 'rl_flops', 'k']
  index = pd.MultiIndex.from_product([sizes, tokens, [0.0, *reinforced], ks], names=names)
  grid = index.to_frame(index=False)
  by_size = splits.assign(per_token=splits['sft_flops'] / splits['sft_tokens'])
  by_size = by_size.groupby('params_non_embedding').mean(numeric_only=True)

  def at_size(column):
    known = np.log(np.maximum(by_size[column].to_numpy(float), 1e-30))
    x, x_known = np.log(grid['params_non_embedding']), np.log(by_size.index.to_numpy(float))
    if len(x_known) == 1:
      return np.full(len(grid), np.exp(known[0]))
    inner = np.interp(x, x_known, known)
    low = known[0] + (x - x_known[0]) * (known[1] - known[0]) / (x_known[1] - x_known[0])
    high = known[-1] + (x - x_known[-1]) * (known[-1] - known[-2]) / (x_known[-1] - x_known[-2])
    return np.exp(np.where(x < x_known[0], low, np.where(x > x_known[-1], high, inner)))

  grid['sft_flops'] = at_size('per_token') * grid['sft_tokens']
  query = at_size('query_prefill_flops') + grid['k'] * at_size('sample_decode_flops')
  grid['inference_flops'] = queries * query
  grid['total_flops'] = grid['sft_flops'] + grid['rl_flops'] + grid['inference_flops']
  if pretraining == 'counted':
    grid['total_flops'] += at_size('pretrain_flops')

  def outside(column, measured):
    low, high = measured[column].min() * (1 - 1e-9), measured[column].max() * (1 + 1e-9)
    return (grid[column] < low) | (grid[column] > high)

  grid['extrapolated'] = False
  for column in ('params_non_embedding', 'sft_tokens', 'k'):
    grid['extrapolated'] |= outside(column, splits)
  if len(trained):
    for column in ('params_non_embedding', 'sft_tokens', 'rl_flops'):
      grid['extrapolated'] |= (grid['rl_flops'] > 0) & outside(column, trained)
  return grid


def _cross_fit(values, weights, halves):
  """Mean over halvings of the left-out half's score of the other half's choice.

  values [R, P]; weights [1, P] of the problems; halves [F, P], 1 where a problem is chosen on.
  """
  inside, outside = halves * weights, (1 - halves) * weights
  scores_in = _ratio(values, inside)  # [R, F]
  scores_out = _ratio(values, outside)
  chosen = np.argmax(np.nan_to_num(scores_in, nan=-1), axis=0)
  return float(np.nanmean(scores_out[chosen, np.arange(len(chosen))])), chosen


def _ratio(values, weights):
  """[R, P], [F, P] -> the weighted means [R, F]."""
  with np.errstate(invalid='ignore'):
    return values @ weights.T / weights.sum(1)


def _over_seeds(values, weights):
  """[R, S, P] -> [R, P], a weighted mean over the seeds that are there; nan where none is."""
  there = ~np.isnan(values[:, :, 0])
  total = (there * weights).sum(1)
  with np.errstate(invalid='ignore'):
    return np.einsum('rsp,s->rp', np.nan_to_num(values), weights) / total[:, None]


@functools.lru_cache
def resamples(seeds, problems, number, seed):
  """Weights of bootstrap resamples: of seeds [B, S] (all 1 for one seed), of problems [B, P]."""
  rng = np.random.default_rng(seed)
  problem_weights = rng.multinomial(problems, np.full(problems, 1 / problems), size=number)
  seed_weights = rng.multinomial(seeds, np.full(seeds, 1 / seeds), size=number)
  return seed_weights.astype(float), problem_weights.astype(float)


def resampled_means(values, seed_weights, problem_weights):
  """[R, S, P] -> the resampled means [B, R]."""
  there = ~np.isnan(values[:, :, 0])
  by_seed = np.nan_to_num(values) @ problem_weights.T / problem_weights.sum(1)  # [R, S, B]
  with np.errstate(invalid='ignore'):
    mean = np.einsum('rsb,bs->br', by_seed, seed_weights)
    return mean / np.einsum('rs,bs->br', there.astype(float), seed_weights)


def _passes(counts, ks, problems):
  """bank -> pass@k [K, P]."""
  result = {}
  for bank, rows in counts.groupby('bank'):
    rows = rows.set_index('problem').loc[problems]
    n, c = rows['n'].to_numpy(), rows['c'].to_numpy()
    result[bank] = estimators.pass_at_k(n, c, ks).T
  return result


def _majorities(votes, ks, problems):
  """bank -> majority@k [K, P]. Equal tallies are computed once."""
  memo, result = {}, {}
  where = {problem: i for i, problem in enumerate(problems)}
  for bank, rows in votes.groupby('bank'):
    out = np.zeros((len(ks), len(problems)))
    for problem, tally in rows.groupby('problem'):
      if problem not in where:
        continue
      silent = tally['answer'].isna()
      key = tuple(sorted(zip(tally.loc[~silent, 'count'], tally.loc[~silent, 'correct'])))
      key = key, int(tally.loc[silent, 'count'].sum())
      if key not in memo:
        sizes, correct = [c for c, _ in key[0]], [bool(ok) for _, ok in key[0]]
        memo[key] = estimators.majority_at_k(sizes, correct, ks, key[1])
      out[:, where[problem]] = memo[key]
    result[bank] = out
  return result
