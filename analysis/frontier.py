"""The frontier: what to buy with a budget of FLOPs, from measured points and from laws.

A split is (model size, tokens of pretraining and SFT, RL updates, k votes). Its total is training
plus Q queries times the cost of one, in model FLOPs; pretraining is 'sunk' (not counted) or
'counted'. Its quality is deployable: the share of held-out problems that a majority vote of k
samples answers right, or, in a study that measured others, any strategy that needs no verdicts
(`deployable`). The oracle, pass@k, is the upper bound of any choice among the k.

The best of many measured points looks better than it is (winner's curse): `best_at` chooses a split
on one half of the problems and reports it on the other half.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from analysis import bands, estimators, planning, tables
from analysis.errors import BadInput
from analysis.joint import JointFit
from analysis.optimum import VARIABLES
from analysis.regression import COLUMNS, linear
from analysis.strategies import hears_verdicts
from analysis.tables import Study

SPLIT = ['model', 'pretrain_tokens', 'sft_tokens', 'rl_algorithm', 'rl_updates', 'k']
ARM = ['strategy', 'scorer_name', 'k']
STAGES = ['pretrain', 'sft', 'rl', 'sampling']
_COSTS = ['pretrain_flops', 'sft_flops', 'rl_flops', 'query_flops']
_COSTS += ['query_prefill_flops', 'sample_decode_flops']
RESAMPLES = 400
FLOOR = 1e-3  # a share of problems solved that counts as none; 0.1 points
TIED = 5e-4  # shares of problems solved that differ by less are the same: half of 0.1 points
STRETCH = 2.0  # how far beyond the measured ranges a law's choice is looked for


class Quality(NamedTuple):
  """Quality of R splits on P problems under S seeds; independent of Q and of any budget."""

  splits: pd.DataFrame  # [R]: SPLIT, sizes and costs
  majority: np.ndarray  # float64 [R, S, P]; nan where a seed has not measured the split
  oracle: np.ndarray  # float64 [R, S, P]
  seeds: tuple = ()  # [S]
  problems: tuple = ()  # [P] ids
  rl_prefill: float = 0.0  # shares of RL's FLOPs: its rollouts; the rest is training
  rl_decode: float = 0.0


class Measured(NamedTuple):
  """Splits with their costs at Q queries, cheapest first."""

  table: pd.DataFrame  # [R]
  majority: np.ndarray  # float64 [R, S, P]
  queries: float
  pretraining: str
  unit: str = 'FLOP'  # of train, inference and total


def qualities(study: Study, ks: Sequence[int] | None = None) -> Quality:
  """majority@k and pass@k of every split, problem and seed; exact, from the banks.

  BadInput where the study has no banks, or where its banks share no problem.
  """
  if study.counts.empty:
    raise BadInput(f'study {study.name!r} has no rollout bank; add a sample stage for a frontier')
  counts = study.counts
  ks = list(ks or estimators.default_ks(int(counts['n'].min())))
  banks = counts.drop_duplicates('bank').set_index('bank')
  problems = sorted(set.intersection(*(set(g) for _, g in counts.groupby('bank')['problem'])))
  if not problems:
    raise BadInput(f'study {study.name!r}: its banks share no problem; sample one fixed pool')
  votes = _majorities(study, ks, problems)
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
      decode = k * costs['sample_decode_flops']
      costs |= {'query_decode_flops': decode, 'query_flops': costs['query_prefill_flops'] + decode}
      rows.append(about | {'k': k, 'seeds': len(cells)} | costs)
  splits = pd.DataFrame(rows).assign(problems=len(problems), strategy='majority', scorer_name='')
  return Quality(
    splits, majority, oracle, tuple(seeds), tuple(problems), *_rollout_shares(study.ledger)
  )


def deployable(quality: Quality, outcomes: pd.DataFrame) -> Quality:
  """The splits of every strategy that hears no verdicts: majority votes, and behind them the
  others of `outcomes` (test_time.load_outcomes), with `majority` then the values of any.

  A strategy that was not measured on all of the problems is left out. Its cost is what a query
  takes, the scorer's passes counted; what training the scorer took is not.
  """
  by_cell = quality.splits.drop_duplicates(SPLIT[:-1]).set_index(SPLIT[:-1])
  flops = {'query_prefill_flops': outcomes['prefill_flops'] + outcomes['scorer_flops']}
  flops['query_decode_flops'] = outcomes['decode_flops']
  once = outcomes['kind'].isin(['sample', 'score']) & (outcomes['k'] == 1)  # a vote of 1
  strategy = outcomes['strategy']
  others = outcomes.assign(**flops)[~hears_verdicts(strategy) & (strategy != 'majority') & ~once]
  rows, values = [], []
  for key, group in others.groupby([*SPLIT[:-1], *ARM], sort=True):
    cell, arm = key[:-3], dict(zip(ARM, key[-3:], strict=True))
    table = group.pivot_table(index='seed', columns='problem', values='value')
    table = table.reindex(index=list(quality.seeds), columns=list(quality.problems))
    table = table.to_numpy(copy=True)
    there = ~np.isnan(table).any(axis=1)
    if cell not in by_cell.index or not there.any():
      continue
    table[~there] = np.nan
    query = group.groupby('problem')[list(flops)].mean().reindex(list(quality.problems)).mean()
    about = by_cell.loc[cell].to_dict() | dict(zip(SPLIT[:-1], cell, strict=True)) | arm
    rows.append(about | {'seeds': int(there.sum()), 'query_flops': query.sum()} | query.to_dict())
    values.append(table)
  if not rows:
    return quality
  values = np.array(values)
  return quality._replace(
    splits=pd.concat([quality.splits, pd.DataFrame(rows)], ignore_index=True),
    majority=np.concatenate([quality.majority, values]),
    oracle=np.concatenate([quality.oracle, np.where(np.isnan(values), np.nan, 0.0)]),
  )


def measured(
  quality: Quality,
  queries: float,
  pretraining: str = 'sunk',
  rates: planning.Rates | None = None,
) -> Measured:
  """Every split with what training, inference and both take, quality and 95 % band, cheapest first.

  train, inference, total: in FLOPs, or in the unit of `rates`. The band is over other problems
  (and seeds, where there are several) of the same kind: `bands.interval`. hull: the best quality of
  those no dearer, with the band of the same; a maximum over noisy points, so optimistic.

  BadInput where `pretraining` is not 'sunk' or 'counted'.
  """
  _check_pretraining(pretraining)
  table = quality.splits.copy()
  table['bases'] = table.groupby('model')['pretrain_tokens'].transform('nunique')
  if pretraining == 'sunk':
    table['pretrain_flops'] = 0.0
  spent = {x: planning.spend(rates, train=table[f'{x}_flops']) for x in ('pretrain', 'sft')}
  spent['rl'] = _rl_cost(quality, table['rl_flops'], rates)
  query = table['query_prefill_flops'], table['query_decode_flops']
  spent['sampling'] = queries * planning.spend(rates, prefill=query[0], decode=query[1])
  table['train'] = spent['pretrain'] + spent['sft'] + spent['rl']
  table['inference'] = spent['sampling']
  table['total'] = table['train'] + table['inference']
  for stage in STAGES:
    table[f'share_{stage}'] = spent[stage] / table['total']
  order = np.argsort(table['total'].to_numpy(), kind='stable')
  table = table.iloc[order].reset_index(drop=True)
  for name, values in (('quality', quality.majority[order]), ('oracle', quality.oracle[order])):
    table[name] = np.nanmean(np.nanmean(values, axis=1), axis=1)
    low, high = bands.interval(values, RESAMPLES)
    table[f'{name}_low'], table[f'{name}_high'] = np.clip(low, 0, 1), np.clip(high, 0, 1)
  by_seed = quality.majority[order]
  weights = bands.problem_weights(by_seed.shape[2], RESAMPLES, seed=0)
  hulls = np.fmax.accumulate(np.nanmean(by_seed, axis=1) @ weights.T)
  table['hull'] = table['quality'].cummax()
  low, high = bands.with_seeds(
    table['hull'],
    *np.nanquantile(hulls, [0.025, 0.975], axis=1),
    np.fmax.accumulate(by_seed.mean(axis=2)),
  )
  never_falling = np.fmax.accumulate(np.clip([low, high], 0, 1), axis=1)
  table['hull_low'], table['hull_high'] = never_falling
  return Measured(table, quality.majority[order], queries, pretraining, planning.unit(rates))


def pareto(table: pd.DataFrame, quality: str = 'quality') -> pd.DataFrame:
  """Rows that no cheaper row equals, cheapest first; a maximum over noisy points: optimistic."""
  table = table.sort_values(['total', quality], ascending=[True, False])
  best_before = table[quality].cummax().shift(fill_value=-np.inf)
  return table[table[quality] > best_before].reset_index(drop=True)


def cheapest(values: np.ndarray) -> np.ndarray:
  """Of values [R, …], cheapest first, the place of the first that none exceeds by TIED."""
  return np.argmax(values >= values.max(axis=0) - TIED, axis=0)


def default_budgets(table: pd.DataFrame, number: int = 3) -> list[float]:
  """Budgets spread evenly in log FLOPs over the measured frontier, rounded up to two figures; the
  largest buys the cheapest split that is as good as any (see TIED)."""
  hull = pareto(table)
  top = hull['total'].iloc[cheapest(hull['quality'].to_numpy())]
  spread = np.geomspace(hull['total'].iloc[0], top, number + 1)[1:]
  unit = 10 ** (np.floor(np.log10(spread)) - 1)
  return list(np.ceil(spread / unit - 1e-9) * unit)


def default_queries(quality: Quality) -> float:
  """Queries at which one sample each costs what the median split's SFT and RL cost, as 10^i."""
  once = quality.splits[quality.splits['k'] == quality.splits['k'].min()]
  train = once['sft_flops'] + once['rl_flops']
  return float(10 ** np.round(np.log10(np.median(train / once['query_flops']))))


def best_at(points: Measured, budgets: Sequence[float], folds: int = 8, seed: int = 0):
  """For each budget the best affordable split: DataFrame, one row a budget.

  `solves` is False where the choice solves no more than FLOOR: there is no best then. The
  split shown is the best on all problems, the cheapest of those that tie. `quality` is
  cross-fitted: the mean over random halvings of the problems of what the choice made on one half
  scores on the other half; low, high: its 95 % interval, the choices made anew on resampled
  problems, and widened by what they give each seed (`bands.with_seeds`).
  `in_sample` is the naive maximum; `agreement` is how many of the halves chose the split shown.
  Rows with affordable = 0 hold nothing else.
  """
  table, values = points.table, points.majority
  P = values.shape[2]
  rng = np.random.default_rng(seed)
  halves = [rng.permutation(P) < P // 2 for _ in range(folds)]
  halves = np.array([half for one in halves for half in (one, ~one)], float)  # [F, P]
  weights = bands.problem_weights(P, RESAMPLES, seed + 1)
  rows = []
  for budget in budgets:
    affordable = int((table['total'] <= budget * (1 + 1e-9)).sum())
    row = {'budget': float(budget), 'affordable': affordable}
    if affordable:
      best = int(cheapest(table['quality'].to_numpy()[:affordable]))
      here = values[:affordable]
      flat, even = np.nanmean(here, axis=1), np.full((1, P), 1.0 / P)
      crossed, chosen = _cross_fit(flat, even, halves)
      draws = [_cross_fit(flat, p[None], halves[:4])[0] for p in weights]
      by_seed = _of_seeds(here, chosen, (1 - halves) * even)
      low, high = bands.with_seeds(crossed, *np.nanquantile(draws, [0.025, 0.975]), by_seed)
      low, high = np.clip([low, high], 0, 1) if P > 1 else (np.nan, np.nan)
      row |= table.iloc[best].to_dict()
      row |= {'in_sample': row['quality'], 'quality': crossed, 'low': low, 'high': high}
      row['solves'] = bool(min(row['in_sample'], crossed) > FLOOR)
      row |= {'agreement': float(np.mean(chosen == best))}
    rows.append(row)
  return pd.DataFrame(rows)


def solving(best: pd.DataFrame) -> pd.DataFrame:
  """The rows of `best_at` that hold a best split."""
  if 'solves' not in best:
    return best.iloc[:0]
  return best[(best['affordable'] > 0) & best['solves'].eq(True)]


def problem(
  law: JointFit,
  quality: Quality,
  queries: float,
  pretraining: str = 'sunk',
  rates: planning.Rates | None = None,
  stretch: float = STRETCH,
) -> planning.Problem:
  """What a study's law of majority@k and its ledger say can be bought: for `planning`.

  N: parameters without embeddings; D: SFT tokens; C: FLOPs of RL. P: tokens of pretraining, where
  the law has them, else 0 and each size costs what its base did. The search reaches `stretch`
  times beyond the measured sizes, tokens, RL compute and k, with RL beyond the sizes and tokens
  that had RL. Costs between sizes are interpolated in logs. Pretraining 'sunk' costs nothing, so
  the law takes the base that it predicts best, never beyond those measured.
  """
  _check_pretraining(pretraining)
  splits = quality.splits[quality.splits['sft_tokens'] > 0]
  splits = splits[splits['strategy'] == 'majority']
  many = any('P' in term for term in law.mean)  # bases of a size, to choose among
  pretrained = splits['pretrain_tokens'].max()  # for a law that has no term of it
  names = {x: column for x, column in COLUMNS.items() if x != 'P' or many} | {'k': 'k'}
  by_size = splits.assign(
    per_token=splits['sft_flops'] / splits['sft_tokens'],
    per_pretrained=splits['pretrain_flops'] / (splits['pretrain_tokens'] if many else 1.0),
  )
  by_size = by_size.groupby('params_non_embedding').mean(numeric_only=True)
  sizes = np.log(by_size.index.to_numpy(float))
  far = np.array([sizes[0] - 20, *sizes, sizes[-1] + 20])  # beyond: the line of the last two sizes

  def in_logs(column):
    y = np.log(np.maximum(by_size[column].to_numpy(float), 1e-30))
    slopes = np.diff(y) / np.diff(sizes) if len(sizes) > 1 else np.zeros(1)
    return np.array([y[0] - 20 * slopes[0], *y, y[-1] + 20 * slopes[-1]])

  columns = ('per_token', 'per_pretrained', 'query_prefill_flops', 'sample_decode_flops')
  known = {column: in_logs(column) for column in columns}
  at = lambda log_N, column: np.exp(np.interp(log_N, far, known[column]))

  def costs(N, P, C, k):
    log_N, base = np.log(N), 0.0
    if pretraining == 'counted':
      base = at(log_N, 'per_pretrained') * (P if many else 1.0)
    once = planning.spend(rates, train=base) + _rl_cost(quality, C, rates)
    prefill, decode = at(log_N, 'query_prefill_flops'), k * at(log_N, 'sample_decode_flops')
    query = planning.spend(rates, prefill=prefill, decode=decode)
    return planning.spend(rates, train=at(log_N, 'per_token')), once, query

  def predict(theta, N, P, D, C, k):
    values = dict(zip('NDCk', np.broadcast_arrays(N, D, C, k))) | {'P': P if many else pretrained}
    return expit(linear(law.basis, law.basis.mean, theta, values))

  return planning.Problem(
    predict=predict,
    theta=np.concatenate([np.array([[*law.mean.values()]]), law.samples]),
    costs=costs,
    regions=_regions(splits, names),
    lower_is_better=False,
    what='majority@k',
    queries=queries,
    unit=planning.unit(rates),
    reach=stretch,
    open=False,
    within=('P',) if pretraining == 'sunk' else (),
  )


def _regions(splits, names):
  """What was measured: of all splits, less their RL, and of those with RL; where `names` has P, of
  bases without pretraining and with it apart, as 0 has no log."""
  found = []
  for rows, without in ((splits, 'C'), (splits[splits['rl_flops'] > 0], '')):
    scratch = rows['pretrain_tokens'] == 0
    for part in (rows[scratch], rows[~scratch]) if 'P' in names else (rows,):
      reach = {x: (float(part[c].min()), float(part[c].max())) for x, c in names.items()}
      if len(part):
        found.append(planning.Region(**{x: r for x, r in reach.items() if x != without}))
  return tuple(found)


def predicted(problem: planning.Problem, budgets: Sequence[float]) -> pd.DataFrame:
  """The law's choice for each budget: two rows a budget, within what was measured (`inside`), and
  within the whole search, where a choice beyond what was measured is `extrapolated`.

  low, high: the law's 95 % at that split; N_low, N_high, …: the splits that the law's bootstrap
  samples would choose. pretrain_tokens is there where the law has them. A row with
  affordable = False holds nothing else.
  """
  has = [x for x in VARIABLES if x != 'P' or any(r.P[1] > 0 for r in problem.regions)]
  rows = []
  for budget in budgets:
    for inside in (True, False):
      row = {'budget': float(budget), 'inside': inside, 'affordable': False}
      rows.append(row)
      if planning.cheapest(problem, inside) > budget:
        continue
      choice = planning.for_budget(problem, budget, inside)
      row |= {COLUMNS.get(x, x): choice.split[x] for x in has} | {'affordable': True}
      row |= {'quality': choice.value, 'total': choice.total}
      row['low'], row['high'] = choice.value_interval
      row['extrapolated'] = bool(choice.extrapolated)
      for name in has:
        row[f'{name}_low'], row[f'{name}_high'] = choice.intervals[name]
  return pd.DataFrame(rows)


def _rl_cost(quality, flops, rates):
  """What RL's FLOPs come to, by kind as in the RL of the whole study: rollouts are decoded."""
  prefill, decode = quality.rl_prefill * flops, quality.rl_decode * flops
  return planning.spend(rates, train=flops - prefill - decode, prefill=prefill, decode=decode)


def _check_pretraining(pretraining):
  if pretraining not in ('sunk', 'counted'):
    raise BadInput(f"pretraining={pretraining!r}: say 'sunk' or 'counted'")


def _rollout_shares(ledger) -> tuple[float, float]:
  """The shares of a study's RL FLOPs that are prefill and decode."""
  spent = ledger[ledger['stage_kind'] == 'rl'].groupby('kind')['model'].sum()
  whole = spent.sum() or 1.0
  return float(spent.get('prefill', 0.0) / whole), float(spent.get('decode', 0.0) / whole)


def _cross_fit(values, weights, halves):
  """Mean over halvings of the left-out half's score of the other half's choice.

  values [R, P]; weights [1, P] of the problems; halves [F, P], 1 where a problem is chosen on.
  """
  inside, outside = halves * weights, (1 - halves) * weights
  scores_in = _ratio(values, inside)  # [R, F]
  scores_out = _ratio(values, outside)
  chosen = cheapest(np.nan_to_num(scores_in, nan=-1))
  return float(np.nanmean(scores_out[chosen, np.arange(len(chosen))])), chosen


def _ratio(values, weights):
  """[R, P], [F, P] -> the weighted means [R, F]."""
  with np.errstate(invalid='ignore'):
    return values @ weights.T / weights.sum(1)


def _of_seeds(values, chosen, outside):
  """[S]: what each seed scores with the choices [F] of the halvings, on the halves left out [F, P];
  over the halvings whose choice it has, NaN where there are none."""
  scores = np.array([_ratio(values[:, s], outside) for s in range(values.shape[1])])  # [S, R, F]
  scores = scores[:, chosen, np.arange(len(chosen))]
  return np.array([np.mean(x[~np.isnan(x)]) if (~np.isnan(x)).any() else np.nan for x in scores])


def _passes(counts, ks, problems):
  """bank -> pass@k [K, P]."""
  result = {}
  for bank, rows in counts.groupby('bank'):
    rows = rows.set_index('problem').loc[problems]
    n, c = rows['n'].to_numpy(), rows['c'].to_numpy()
    result[bank] = estimators.pass_at_k(n, c, ks).T
  return result


def _majorities(study, ks, problems):
  """bank -> majority@k [K, P]: as its stage wrote them down, else of its votes, each tally once."""
  memo, result = {}, {}
  where = {problem: i for i, problem in enumerate(problems)}
  for bank, rows in study.votes.groupby('bank'):
    path = study.workdir / 'stages' / bank / 'outcomes.parquet'
    if path.exists():
      measured = tables.parquet(path).query("strategy == 'majority'")
      if set(ks) <= set(measured['k']):
        by_k = measured.pivot(index='k', columns='problem', values='value')
        result[bank] = by_k.loc[ks, problems].to_numpy()
        continue
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


if __name__ == '__main__':
  import sys

  from analysis.frontier_command import main

  sys.exit(main())
