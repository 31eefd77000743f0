"""Test-time compute: every strategy against its FLOPs, and the best of them by difficulty.

`load_outcomes` reads what stages measured; `quality` puts a mean and an interval on it. Compute-
optimal test time (2408.03314): problems are binned by difficulty, and each bin gets the strategy
and k that is best in it at a budget. Two selections could flatter it, and both are held apart:

- a problem's difficulty is estimated from one half of its samples, and the strategies' values from
  the other half;
- strategies are chosen on one half of the problems and scored on the other half (cross-fitted).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import bands, estimators, strategies, tables
from analysis.errors import BadInput

CELL = ['model', 'pretrain_tokens', 'sft_tokens', 'rl_algorithm', 'rl_updates']
ARM = ['strategy', 'scorer_name', 'k']
BINS = 5
BASELINES = {
  'best_of_n': 'best-of-n for all problems',
  'majority': 'majority vote for all problems',
  'uniform': 'the best strategy and k for all problems',
}


def load_outcomes(workdir, study: str | None = None) -> pd.DataFrame:
  """Outcomes of every strategy measured: strategies.OUTCOMES, with the cell that each is of.

  Beside them: kind (of the stage), seed and CELL, params_non_embedding, and scorer_name: the size
  of the scorer, with its id where one cell has several of a size and objective; '' without one.
  Each stage is there once. BadInput where there are none.
  """
  found = _outcomes(workdir, tables.plans(workdir, study).values())
  if found.empty:
    raise BadInput(f'{workdir}: no outcomes of strategies; add a sample stage with measure=True')
  return found


def outcomes_of(study: tables.Study) -> pd.DataFrame:
  """`load_outcomes` of a study that was read; empty where it has none."""
  found = _outcomes(study.workdir, [study.plan])
  return found if found.empty else tables.largest_pool(found).reset_index(drop=True)


def _outcomes(workdir, plans) -> pd.DataFrame:
  found = {}
  for plan in plans:
    presets = {s['id']: s['recipe'].get('preset', '') for s in plan['stages']}
    for path in tables.stage_files(workdir, plan, 'outcomes.parquet'):
      records = path.parent / 'records.parquet'
      if path.parent.name in found or not records.exists():
        continue
      table, about = tables.parquet(path), tables.parquet(records).iloc[0]
      if about.get('synthetic', 'none') != 'none':  # see analysis.self_training
        continue
      for column in ('kind', 'seed', *CELL, 'params_non_embedding'):
        table[column] = about[column]
      if 'sft_pool_tokens' in about:
        table['sft_pool_tokens'] = about['sft_pool_tokens']
      table['scorer'] = table['scorer'].fillna('')
      table['scorer_name'] = [presets.get(s, s) if s else '' for s in table['scorer']]
      found[path.parent.name] = table if 'error' in table else table.assign(error=0.0)
  if not found:
    return pd.DataFrame()
  outcomes = pd.concat(found.values(), ignore_index=True)
  each = outcomes.groupby(['seed', *CELL, 'strategy', 'scorer_name'])['scorer']
  several = each.transform('nunique') > 1
  name = outcomes['scorer_name'] + ' ' + outcomes['scorer'].str[-4:]
  return outcomes.assign(scorer_name=name.where(several, outcomes['scorer_name']))


def quality(outcomes: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
  """A row a (CELL, ARM): value with low and high, flops of a query and its parts, problems, seeds.

  value: the mean over problems and seeds, runs of a problem first put together. The interval is
  over problems, of which each brings all of its samples and runs along, and over seeds where there
  are several: `bands.interval`. A problem that a seed lacks is left out of all.
  """
  rows = []
  means = outcomes.groupby([*CELL, *ARM, 'seed', 'problem'], as_index=False, sort=False).agg(
    {name: 'mean' for name in ('value', 'error', *strategies.COSTS, 'params_non_embedding')}
  )
  for key, group in means.groupby([*CELL, *ARM], sort=True):
    values = group.pivot(index='seed', columns='problem', values='value').dropna(axis=1)
    group = group[group['problem'].isin(values.columns)]
    if values.shape[1] == 0:
      continue
    S, P = values.shape
    row = dict(zip([*CELL, *ARM], key, strict=True)) | {'problems': P, 'seeds': S}
    row['value'] = float(values.to_numpy().mean())
    row['low'], row['high'] = np.clip(bands.interval(values.to_numpy(), level=level), 0, 1)
    costs = group[[*strategies.COSTS, 'params_non_embedding']].mean().to_dict()
    flops = sum(costs[f'{kind}_flops'] for kind in strategies.KINDS)
    rows.append(row | costs | {'flops': flops})
  return pd.DataFrame(rows).sort_values(
    ['params_non_embedding', *CELL[1:], *ARM], ignore_index=True
  )


class Arms(NamedTuple):
  """What a query could be given, by one model: A arms on P problems, by H halvings of samples."""

  table: pd.DataFrame  # [A]: ARM
  values: np.ndarray  # [H, A, P]: on one half of each problem's samples
  difficulty: np.ndarray  # [H, P]: the pass rate on the other half
  costs: np.ndarray  # [A, P] FLOPs
  problems: list  # [P] ids
  samples: int  # of each problem in the bank


class Scored(NamedTuple):
  """A scorer's scores of a bank."""

  name: str  # of the scorer
  objective: str
  scores: pd.DataFrame  # problem, sample, score, flops, steps


def arms(
  table: pd.DataFrame,
  scored: Sequence[Scored] = (),
  generated: pd.DataFrame | None = None,
  ks: Sequence[int] | None = None,
  halvings: int = 2,
  seed: int = 0,
) -> Arms:
  """The deployable arms of a bank (majority, logprob, those of each scorer), and those that draw
  their own samples (`generated`: outcomes), which are the same in all halves.

  ks: 1, 2, 4, … up to a quarter of a half by default. Each of `halvings` random cuts of the samples
  is used both ways. BadInput where a problem has fewer than 2 samples.
  """
  bank = strategies.pool(table)
  P, n = bank.correct.shape
  if n < 2:
    raise BadInput('a bank of 1 sample has no half to estimate difficulty from; draw more')
  ks = list(ks or estimators.default_ks(n // 2))
  rng = np.random.default_rng([seed, n])
  halves = []
  for _ in range(halvings):
    order = rng.permutation(n)
    halves += [(order[: n // 2], order[n // 2 :]), (order[n // 2 :], order[: n // 2])]
  matched = [s._replace(scores=strategies.match(bank, s.scores)) for s in scored]
  values, difficulty = [], []
  for known, used in halves:
    half = strategies.some(bank, used)
    found = {(name, ''): v for name, (v, _) in strategies.unscored(half, ks).items()}
    rows = (np.arange(P)[:, None] * n + used).ravel()
    for s in matched:
      of_scorer = strategies.scored(half, s.scores.iloc[rows], s.objective, ks)
      found |= {(name, s.name): v for name, (v, _) in of_scorer.items()}
    found.pop(('oracle', ''))
    values.append(np.concatenate([v.T for v in found.values()]))
    difficulty.append(bank.correct[:, known].mean(axis=1))
  flops, once = {'': 0.0}, {'': 0.0}
  for s in matched:
    flops[s.name] = s.scores['flops'].to_numpy(float).reshape(P, n).mean(axis=1)
    prompt = s.scores['prompt_flops'] if 'prompt_flops' in s.scores else 0.0 * s.scores['flops']
    once[s.name] = prompt.to_numpy(float).reshape(P, n)[:, 0]  # read once for all samples
  rows, costs = [], []
  for strategy, name in found:
    for k in ks:
      rows.append((strategy, name, k))
      each = bank.decode_flops.mean(axis=1) + flops[name]
      costs.append(bank.prefill_flops + once[name] + k * each)
  values, costs = np.array(values), np.array(costs)
  if generated is not None and len(generated):
    more, their, cost = _generated(generated, bank.problems)
    rows += more
    values = np.concatenate([values, np.tile(their, (len(values), 1, 1))], axis=1)
    costs = np.concatenate([costs, cost])
  table = pd.DataFrame(rows, columns=ARM)
  return Arms(table, values, np.array(difficulty), costs, bank.problems, n)


def _generated(outcomes, problems):
  """(ARM rows, values [A, P], costs [A, P]) of the arms that were measured on all problems."""
  outcomes = outcomes.assign(flops=sum(outcomes[f'{kind}_flops'] for kind in strategies.KINDS))
  rows, values, costs = [], [], []
  outcomes = outcomes[~strategies.hears_verdicts(outcomes['strategy'])]
  for key, group in outcomes.groupby(ARM, sort=True):
    means = group.groupby('problem')[['value', 'flops']].mean().reindex(problems)
    if means['value'].notna().all():
      rows.append(key)
      values.append(means['value'].to_numpy())
      costs.append(means['flops'].to_numpy())
  shape = (len(rows), len(problems))
  return rows, np.reshape(values, shape), np.reshape(costs, shape)


class Policy(NamedTuple):
  """What a choice scores on each problem [U, P], by budget; NaN where the budget buys no arm."""

  adaptive: np.ndarray  # a strategy and k for each bin of difficulty
  flops: np.ndarray  # what it spends on a query
  baselines: dict  # name of BASELINES -> [U, P]


def policy(arms: Arms, budgets: Sequence[float], halves, bins: int = BINS) -> Policy:
  """For each problem, the mean over the halvings that left it out of what was chosen without it.

  halves: bool [F, P], True where a problem is chosen on; it is scored where that is False, and
  everywhere under a half of all, which makes the naive, in-sample choice. An arm is affordable
  where its mean cost over the problems chosen on is within the budget; a bin with no problem to
  choose on gets the uniform choice. Best-of-n and majority take the largest k that the budget
  buys; of several scorers, the best on the problems chosen on.
  """
  names = ('adaptive', 'flops', *BASELINES)
  sums = {name: np.zeros((len(budgets), len(arms.problems))) for name in names}
  groups, k = _families(arms.table), arms.table['k'].to_numpy()
  group_of = arms.table.groupby(ARM[:2], sort=False).ngroup().to_numpy()
  best = lambda of, among: int(np.argmax(np.where(among, of, -np.inf)))
  tested = np.zeros(len(arms.problems))
  for values, difficulty in zip(arms.values, arms.difficulty, strict=True):
    for half in halves:
      out = np.flatnonzero(half if half.all() else ~half)
      tested[out] += 1
      edges = _quantiles(difficulty[half], bins)
      place = np.searchsorted(edges, difficulty, side='left')
      member = np.eye(bins)[place] * half[:, None]  # [P, bins]
      count = member.sum(axis=0)
      in_bins = values @ member / np.maximum(count, 1)
      mean, cost = values[:, half].mean(axis=1), arms.costs[:, half].mean(axis=1)
      for u, budget in enumerate(budgets):
        can = cost <= budget * (1 + 1e-9)
        if not can.any():
          for total in sums.values():
            total[u, out] = np.nan
          continue
        uniform = best(mean, can)
        choice = [best(in_bins[:, b], can) if count[b] else uniform for b in range(bins)]
        taken = np.array(choice)[place[out]], out
        sums['adaptive'][u, out] += values[taken]
        sums['flops'][u, out] += arms.costs[taken]
        sums['uniform'][u, out] += values[uniform, out]
        for name, of in groups.items():
          most = np.zeros(group_of.max() + 1)
          np.maximum.at(most, group_of, np.where(can & of, k, 0))
          among = can & of & (k == most[group_of])
          sums[name][u, out] += values[best(mean, among), out] if among.any() else np.nan
  done = {name: value / tested for name, value in sums.items()}
  return Policy(done.pop('adaptive'), done.pop('flops'), done)


def _families(table) -> dict:
  """Which arms are of uniform best-of-n, and of the majority vote."""
  name = table['strategy']
  ranked = (name.str.startswith('best_of_') | name.str.startswith('prm_')).to_numpy()
  if not ranked.any():  # no scorer: by the policy's own log-prob
    ranked = (name == 'logprob').to_numpy()
  return {'best_of_n': ranked, 'majority': (name == 'majority').to_numpy()}


def _quantiles(values, bins):
  """The inner edges of `bins` quantiles of values, which are values; equal ones share a bin."""
  at = np.ceil(np.arange(1, bins) / bins * len(values) - 1e-9).astype(int) - 1
  return np.sort(values)[np.maximum(at, 0)]


def compute_optimal(
  by_seed: Sequence[Arms],
  budgets: Sequence[float],
  bins: int = BINS,
  folds: int = 8,
  bootstrap: int = 200,
  seed: int = 0,
) -> pd.DataFrame:
  """Compute-optimal test time at each budget (FLOPs of a query), cross-fitted: a row a budget.

  by_seed: the arms of each seed's model, of the same problems and with the same table. Columns:
  budget, quality (of a strategy and k for each difficulty bin), flops (that it spent), in_sample
  (the naive quality, and in_sample_gain over best-of-n), and for each NAME of BASELINES: NAME,
  gain_NAME with its 95 % interval gain_NAME_low, gain_NAME_high; problems. The interval has the
  spread of `bootstrap` resamples of the problems, in each of which all is chosen anew, about the
  gain itself (a resample holds fewer distinct problems to choose on, so its own mean is too low),
  widened by the spread of the seeds' gains (`bands.with_seeds`). What estimating difficulty costs
  is not counted.
  """
  P = len(by_seed[0].problems)
  if P < 2:
    raise BadInput('compute-optimal test time chooses on half of the problems: it needs 2 or more')
  rng = np.random.default_rng(seed)
  halves = [rng.permutation(P) < P // 2 for _ in range(folds)]
  halves = np.array([half for one in halves for half in (one, ~one)])
  crossed = [policy(a, budgets, halves, bins) for a in by_seed]
  naive = [policy(a, budgets, np.ones((1, P), bool), bins) for a in by_seed]
  mean = lambda get, of: np.mean([get(x) for x in of], axis=(0, 2))
  adaptive, in_sample = mean(lambda x: x.adaptive, crossed), mean(lambda x: x.adaptive, naive)
  result = {'budget': list(budgets), 'quality': adaptive, 'in_sample': in_sample}
  result['flops'] = mean(lambda x: x.flops, crossed)
  gain_of = lambda x: np.array([x.adaptive - x.baselines[name] for name in BASELINES]).mean(axis=2)
  by_seed_gains = np.array([gain_of(x) for x in crossed])  # [S, baselines, U]
  gains = by_seed_gains.mean(axis=0)
  draws = []
  for _ in range(bootstrap):
    columns = rng.integers(0, P, P)
    some = halves[:4, columns]
    some = some[some.any(axis=1) & ~some.all(axis=1)]
    if len(some):
      again = [gain_of(policy(_take(a, columns), budgets, some, bins)) for a in by_seed]
      draws.append(np.mean(again, axis=0))
  spread = np.array(draws) - np.mean(draws, axis=0)
  low, high = gains + np.quantile(spread, [0.025, 0.975], axis=0)
  low, high = bands.with_seeds(gains, low, high, np.moveaxis(by_seed_gains, 0, -1))
  for i, name in enumerate(BASELINES):
    result[name] = mean(lambda x, name=name: x.baselines[name], crossed)
    result |= {f'gain_{name}': gains[i], f'gain_{name}_low': low[i], f'gain_{name}_high': high[i]}
  result['in_sample_gain'] = in_sample - mean(lambda x: x.baselines['best_of_n'], naive)
  return pd.DataFrame(result).assign(problems=P)


def _take(a: Arms, columns: np.ndarray) -> Arms:
  """The arms on some of the problems, which may be there several times."""
  return a._replace(
    values=a.values[:, :, columns],
    difficulty=a.difficulty[:, columns],
    costs=a.costs[:, columns],
    problems=[a.problems[i] for i in columns],
  )


def choices(arms: Arms, budget: float, bins: int = BINS) -> pd.DataFrame:
  """What each bin would get, chosen on all problems: bin (0: hardest), pass_rate, problems, ARM."""
  rows = []
  difficulty, values = arms.difficulty.mean(axis=0), arms.values.mean(axis=0)
  place = np.searchsorted(_quantiles(difficulty, bins), difficulty)
  can = arms.costs.mean(axis=1) <= budget * (1 + 1e-9)
  for b in range(bins):
    inside = place == b
    if inside.any() and can.any():
      best = int(np.argmax(np.where(can, values[:, inside].mean(axis=1), -np.inf)))
      row = {'bin': b, 'pass_rate': difficulty[inside].mean(), 'problems': int(inside.sum())}
      rows.append(row | arms.table.iloc[best].to_dict() | {'value': values[best, inside].mean()})
  return pd.DataFrame(rows)


class Optimal(NamedTuple):
  """Compute-optimal test time of one cell of a study."""

  cell: dict  # CELL
  seeds: int
  n: int  # samples of each problem
  table: pd.DataFrame  # of `compute_optimal`, a row a budget: the mean cost of majority@k
  ks: list  # of those majority votes
  chosen: pd.DataFrame  # of `choices` at the largest budget, of the first seed


def richest(measured: pd.DataFrame) -> pd.DataFrame:
  """The rows of `quality` of each model's cell with most strategies; of several, the best one."""
  found = []
  for _, rows in measured.groupby('model', sort=False):
    cells = rows.groupby(CELL)
    rank = pd.DataFrame({'arms': cells[ARM[0]].nunique()})
    deployable = rows[~strategies.hears_verdicts(rows['strategy'])]
    rank['best'] = deployable.groupby(CELL)['value'].max()
    best = rank.sort_values(['arms', 'best']).index[-1]
    found.append(rows[(rows[CELL] == list(best)).all(axis=1)])
  return pd.concat(found)


def optimal(study: tables.Study, outcomes: pd.DataFrame, measured: pd.DataFrame) -> Optimal | None:
  """Compute-optimal test time of the study's cell with most strategies, or None without a bank.

  Its budgets are what majority votes of 2, 4, … samples cost. BadInput where a bank is too small.
  """
  rows = richest(measured)
  arms_of = rows.groupby(CELL)['strategy'].nunique()
  cell = dict(zip(CELL, arms_of.index[int(np.argmax(arms_of.to_numpy()))], strict=True))
  here = outcomes[(outcomes[CELL] == list(cell.values())).all(axis=1)]
  banks = here[here['kind'] == 'sample'].groupby('seed')['stage'].first()
  if banks.empty:
    return None
  by_seed = [_arms_of(study, here[here['seed'] == seed], bank) for seed, bank in banks.items()]
  of = [[tuple(arm) for arm in a.table.itertuples(index=False, name=None)] for a in by_seed]
  cost = dict(zip(of[0], by_seed[0].costs.mean(axis=1), strict=True))
  common = sorted(set.intersection(*map(set, of)), key=lambda arm: (cost[arm], arm))
  problems = sorted(set.intersection(*(set(a.problems) for a in by_seed)))
  by_seed = [_same(a, common, problems) for a in by_seed]  # of equals, the cheapest is taken
  if len(problems) < 8 or not len(by_seed[0].table):
    raise BadInput(f'{len(problems)} problems have a bank; bins of difficulty need 8 or more')
  votes = by_seed[0].table['strategy'].eq('majority').to_numpy()
  ks = by_seed[0].table['k'].to_numpy()[votes]
  budgets = np.mean([a.costs[votes].mean(axis=1) for a in by_seed], axis=0)
  some = ks > 1 if (ks > 1).any() else ks > 0
  ks, budgets = ks[some], budgets[some] * (1 + 1e-6)
  table = compute_optimal(by_seed, list(budgets))
  chosen = choices(by_seed[0], budgets[-1])
  return Optimal(cell, len(by_seed), by_seed[0].samples, table, ks.tolist(), chosen)


def _same(a: Arms, order: list, problems: list) -> Arms:
  """These arms and problems, in this order."""
  place = {tuple(arm): i for i, arm in enumerate(a.table.itertuples(index=False, name=None))}
  keep, row = [place[arm] for arm in order], {p: i for i, p in enumerate(a.problems)}
  table = a.table.iloc[keep].reset_index(drop=True)
  ordered = a._replace(table=table, values=a.values[:, keep], costs=a.costs[keep])
  return _take(ordered, np.array([row[problem] for problem in problems], int))


def _arms_of(study: tables.Study, here: pd.DataFrame, bank: str) -> Arms:
  """The arms of one seed's cell: its bank, the scores of it, and the searches from its model."""
  objectives = {s['id']: s['recipe'].get('objective') for s in study.plan['stages']}
  scored = []
  for (stage, scorer, name), _ in here.groupby(['stage', 'scorer', 'scorer_name']):
    path = study.workdir / 'stages' / stage / 'scores.parquet'
    if path.exists() and _parent(study, stage) == bank:
      scored.append(Scored(name, objectives[scorer], tables.parquet(path)))
  table = tables.stage_bank(study.workdir, bank, strategies.NEEDED)
  return arms(table, scored, here[here['kind'] == 'search'])


def _parent(study, stage_id):
  return next(s['parent'] for s in study.plan['stages'] if s['id'] == stage_id)


SCORER_METRICS = ('auc', 'auc_within', 'verdict_accuracy', 'calibration_error')


def scorers(study: tables.Study) -> pd.DataFrame:
  """A row a scorer and model scored: objective, scorer (its size), model, seed, and the metrics."""
  rows = study.records[study.records['metric'].isin(SCORER_METRICS)]
  if rows.empty:
    return pd.DataFrame()
  recipes = {s['id']: s['recipe'] for s in study.plan['stages']}
  about = ['stage', 'scorer', 'model', 'seed', 'problems']
  value = rows.pivot_table(index=about, columns='metric', values='value').reset_index()
  error = rows.pivot_table(index='stage', columns='metric', values='stderr')
  value['objective'] = [recipes.get(s, {}).get('objective', '') for s in value['scorer']]
  value['size'] = [recipes.get(s, {}).get('preset', s) for s in value['scorer']]
  for metric in error:
    value[f'{metric}_stderr'] = value['stage'].map(error[metric])
  return value
