"""Models that learn from samples: what rounds gain and lose, and what they are worth beside human
data.

    python -m analysis.self_training WORKDIR [--study=NAME] [--out=FOLDER]

A run is a call of a recipe of config.synthetic, or rounds of DPO; its policies are measured on the
same test problems, and round 0 is the SFT branch beside it. All differences are paired by problem
(and seed), and their 95 % intervals resample both.

    watch     a row a run and round: pass@1 and pass@K, entropy, distinct-n, held-out loss
    against   a row a run: pass@1 over that of the recipe 'human', at equal tokens and equal FLOPs
    recovered the part of the gap between a weak teacher and a strong student's ceiling that the
              student of the teacher's labels closes (2312.09390)
    paths     accuracy over the log of distinct reasoning paths (RFT, 2308.01825)
"""

import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import bands, command, estimators, readings, tables
from analysis.errors import BadInput

RUN = ['run', 'model']
GRAM = 4  # tokens: distinct-n is the part of a problem's n-grams that are distinct (1510.03055)
MEASURES = {  # of a bank, by problem
  'pass_1': 'pass@1',
  'pass_K': 'pass@K, K the largest power of 2 up to a quarter of the samples',
  'entropy': 'mean of -log p of the tokens drawn, nats: the entropy a token at temperature 1',
  'distinct': 'distinct-4: the part of the 4-grams of tokens of the samples that are distinct',
  'responses': 'the part of the samples that are distinct texts',
}
SAMPLED = ['problem', 'sample', 'tokens', 'logprobs', 'response', 'correct']
NEAR = 0.05  # two budgets of tokens are equal to within this part of them
BOOTSTRAPS = 2000


class Found(NamedTuple):
  """What a study says of self-training."""

  watch: pd.DataFrame  # see `watch`
  against: pd.DataFrame  # see `against`
  recovered: pd.DataFrame  # see `recovered`
  paths: pd.DataFrame  # see `paths`
  K: int  # of pass@K


class Runs(NamedTuple):
  """The policies of a study's runs, and what was measured of each."""

  policies: pd.DataFrame  # one row a policy: see `policies`
  measures: dict  # bank -> MEASURES by problem
  K: int


def read(workdir, study: str | None = None) -> Found:
  """All of it, of the newest study where none is named. BadInput where it has no such run."""
  runs = measured(workdir, study)
  return Found(watch(runs), against(runs), recovered(runs), paths(runs), runs.K)


def of_study(study: tables.Study) -> Found | None:
  """`read` of a study that was read; None where it has no such run."""
  recipes = [stage['recipe'] for stage in study.plan['stages'] if stage['kind'] in ('sft', 'dpo')]
  if not any('called' in recipe for recipe in recipes):
    return None
  try:
    return read(study.workdir, study.name)
  except BadInput:  # none has been measured yet
    return None


# -- policies and what was measured of them


def policies(plan: dict, records: pd.DataFrame) -> pd.DataFrame:
  """One row a (RUN, seed, round): the policy's stage and bank, the columns of its cell, training
  (FLOPs beyond pretraining), keep (config.synthetic), teacher (a size, '' for itself), weak (the
  bank of the teacher's own policy), and loss (held out; NaN where not measured).

  Round 0 of every run is the SFT branch of the same size and base; where a size has several bases,
  model names both: '75k, 255,311 tokens of pretraining'. Policies without a bank are left out.
  """
  by_id = {stage['id']: stage for stage in plan['stages']}
  measured = records[(records['metric'] == 'accuracy') & (records['strategy'] == 'oracle')]
  cells = measured.drop_duplicates('bank').set_index('bank')
  losses = records[records['metric'] == 'loss'].drop_duplicates('stage').set_index('stage')['value']
  banks = {by_id[bank]['parent']: bank for bank in cells.index if bank in by_id}
  starts, rows = {}, []
  for stage_id, bank in banks.items():
    recipe = by_id[stage_id]['recipe']
    if by_id[stage_id]['kind'] == 'sft' and 'called' not in recipe:
      base = cells.at[bank, 'pretrain_tokens']
      start = recipe['preset'], base, recipe['seed']
      starts[start] = stage_id, bank  # the last is of the largest budget
  for stage_id, bank in banks.items():
    row = _of_chain(by_id, stage_id)
    if row is None:
      continue
    recipe = by_id[stage_id]['recipe']
    row |= {'model': recipe['preset'], 'seed': recipe['seed'], 'stage': stage_id, 'bank': bank}
    row['pretrain_tokens'] = cells.at[bank, 'pretrain_tokens']
    row['weak'] = banks.get(row.pop('drawn_by'), '')
    start = starts.get((row['model'], row['pretrain_tokens'], row['seed']))
    rows.append(row)
    if start is not None:
      rows.append(row | dict(round=0, stage=start[0], bank=start[1]))
  if not rows:
    raise BadInput(
      f'study {plan["name"]}: no measured run of config.synthetic or config.dpo; set '
      'config.synthetic.runs and config.synthetic.sizes'
    )
  found = pd.DataFrame(rows)
  several = found.groupby('model')['pretrain_tokens'].transform('nunique') > 1
  of_base = found['model'] + found['pretrain_tokens'].map(', {:,.0f} tokens of pretraining'.format)
  found['model'] = found['model'].where(~several, of_base)
  found = found.drop_duplicates([*RUN, 'seed', 'round'])
  about = [c for c in cells.columns if c.startswith(('synthetic_', 'sft_', 'params'))]
  found = found.join(cells[[*about, 'rl_flops']], on='bank')
  found['training'] = found['sft_flops'] + found['rl_flops']
  found['loss'] = found['stage'].map(losses)
  return found.sort_values([*RUN, 'seed', 'round'], ignore_index=True)


def _of_chain(by_id: dict, stage_id: str) -> dict | None:
  """run, round, keep, teacher and drawn_by of a policy; None for one that is of no run."""
  stage, recipe = by_id[stage_id], by_id[stage_id]['recipe']
  if stage['kind'] == 'dpo':
    above, rounds = stage, 0
    while above is not None and above['kind'] == 'dpo':
      above, rounds = by_id.get(above['parent']), rounds + 1
    called = recipe['called']
    name = called if called.startswith('spin') else f'dpo {called}'
    return dict(run=name, round=rounds, keep='pairs', teacher='', drawn_by='')
  if stage['kind'] != 'sft' or 'called' not in recipe:  # RL has runs of its own
    return None
  row = dict(run=recipe['called'], round=recipe['round'], keep='human', teacher='', drawn_by='')
  if recipe['synthetic'] is not None:
    made = by_id[recipe['synthetic']]
    row['keep'] = made['recipe']['keep']
    if made['recipe']['preset'] != recipe['preset']:
      row |= dict(teacher=made['recipe']['preset'], drawn_by=made['parent'])
  return row


def of_bank(table: pd.DataFrame, K: int) -> pd.DataFrame:
  """MEASURES of a bank's rows (SAMPLED), by problem: pass@k exact over all subsets of k."""
  rows = {}
  for problem, ones in table.groupby('problem', sort=False):
    n, right = len(ones), int(ones['correct'].sum())
    grams, logprobs = [], np.concatenate(ones['logprobs'].to_list())
    for tokens in ones['tokens']:
      if len(tokens) >= GRAM:
        grams.append(np.lib.stride_tricks.sliding_window_view(np.asarray(tokens), GRAM))
    grams = np.concatenate(grams) if grams else np.zeros((0, GRAM), int)
    rows[problem] = (
      right / n,
      float(estimators.pass_at_k(n, right, K)),
      float(-logprobs.mean(dtype=np.float64)),
      len(np.unique(grams, axis=0)) / len(grams) if len(grams) else np.nan,
      ones['response'].nunique() / n,
    )
  return pd.DataFrame.from_dict(rows, orient='index', columns=list(MEASURES))


def measured(workdir, study: str | None = None) -> Runs:
  """The runs of a study with the measures of their banks."""
  plan = list(tables.plans(workdir, study).values())[-1]
  found = policies(plan, tables.load(workdir, plan['name']))
  banks = [*dict.fromkeys([*found['bank'], *(bank for bank in found['weak'] if bank)])]
  read = {bank: tables.stage_bank(workdir, bank, SAMPLED) for bank in banks}
  fewest = min(int(table.groupby('problem').size().min()) for table in read.values())
  K = estimators.default_ks(fewest)[-1]
  return Runs(found, {bank: of_bank(table, K) for bank, table in read.items()}, K)


def values(runs: Runs, banks: list[str], name: str) -> np.ndarray:
  """A measure [S, P] of one bank a seed, over the problems that all have."""
  tables_ = [runs.measures[bank][name] for bank in banks]
  common = [p for p in tables_[0].index if all(p in other.index for other in tables_[1:])]
  return np.stack([table.loc[common].to_numpy(np.float64) for table in tables_])


def _paired(runs: Runs, first: pd.DataFrame, second: pd.DataFrame, name: str) -> np.ndarray:
  """The differences [S, P] second - first of a measure, over the seeds that both have."""
  both = first.merge(second, on='seed', suffixes=('_first', '_second'))
  pair = (values(runs, both[f'bank_{which}'].to_list(), name) for which in ('first', 'second'))
  before, after = pair
  return after - before


# -- what is said of them


def watch(runs: Runs) -> pd.DataFrame:
  """A row a (RUN, round): each of MEASURES, and its change over round 0 with low and high; loss,
  the mean over seeds; the cell's examples, paths, tokens and training FLOPs."""
  rows = []
  for key, run in runs.policies.groupby(RUN, sort=False):
    start = run[run['round'] == 0]
    for number, here in run.groupby('round'):
      row = dict(zip(RUN, key, strict=True)) | {'round': number, 'seeds': len(here)}
      for name in MEASURES:
        row[name] = float(np.nanmean(values(runs, here['bank'].to_list(), name)))
        change, band = np.nan, (np.nan, np.nan)
        if len(start):
          by_problem = _paired(runs, start, here, name)
          change = float(np.nanmean(by_problem))
          band = readings.band(by_problem[:, ~np.isnan(by_problem).any(axis=0)])
        row |= {f'{name}_change': change, f'{name}_low': band[0], f'{name}_high': band[1]}
      about = ['loss', 'training', 'sft_tokens', 'synthetic_examples', 'synthetic_paths']
      rows.append(row | here[about].mean().to_dict())
  return pd.DataFrame(rows)


def _last(run: pd.DataFrame) -> pd.DataFrame:
  return run[run['round'] == run['round'].max()]


def against(runs: Runs) -> pd.DataFrame:
  """A row a run that is not of human data alone, at its last round: pass@1 over that of 'human'.

  tokens_*: over the run of recipe human of as many tokens of SFT. flops_*: over human data at equal
  FLOPs beyond pretraining, generation and who drew the samples counted: by problem, on the line
  between the two runs of recipe human whose FLOPs are around it, in log FLOPs; NaN where there are
  none around. Each has change, low and high.
  """
  rows = []
  for model, of_model in runs.policies.groupby('model', sort=False):
    human = of_model[(of_model['keep'] == 'human') & (of_model['round'] > 0)]
    for name, run in of_model[of_model['keep'] != 'human'].groupby('run', sort=False):
      if human.empty or _last(run)['round'].iloc[0] == 0:
        continue
      last = _last(run)
      row = {'run': name, 'model': model, 'round': int(last['round'].iloc[0]), 'seeds': len(last)}
      row |= {'pass_1': float(values(runs, last['bank'].to_list(), 'pass_1').mean())}
      row |= last[['training', 'sft_tokens', 'synthetic_paths']].mean().to_dict()
      same = human[np.isclose(human['sft_tokens'], last['sft_tokens'].mean(), rtol=NEAR)]
      difference = {
        'tokens': _paired(runs, same, last, 'pass_1') if len(same) else None,
        'flops': _at_equal_flops(runs, human, last),
      }
      for axis, change in difference.items():
        low, high = readings.band(change) if change is not None else (np.nan, np.nan)
        mean = np.nan if change is None else float(change.mean())
        row |= {f'{axis}_change': mean, f'{axis}_low': low, f'{axis}_high': high}
      rows.append(row)
  return pd.DataFrame(rows)


def _at_equal_flops(runs: Runs, human: pd.DataFrame, last: pd.DataFrame) -> np.ndarray | None:
  """Differences [S, P] of pass@1 over human data at the same FLOPs; None where none is around."""
  cost = human.groupby('run')['training'].mean().sort_values()
  at = last['training'].mean()
  if not len(cost) or not cost.iloc[0] <= at <= cost.iloc[-1]:
    return None
  above = max(1, int(np.searchsorted(cost, at))) if len(cost) > 1 else 0
  ends = [human[human['run'] == cost.index[i]] for i in (max(above - 1, 0), above)]
  seeds = sorted(set(last['seed']) & set(ends[0]['seed']) & set(ends[1]['seed']))
  if not seeds:
    return None
  a, b = np.log(cost.iloc[max(above - 1, 0)]), np.log(cost.iloc[above])
  part = (np.log(at) - a) / (b - a) if b > a else 0.0
  take = lambda table: table.set_index('seed').loc[seeds, 'bank'].to_list()
  banks = [*take(last), *take(ends[0]), *take(ends[1])]
  mine, low, high = np.split(values(runs, banks, 'pass_1'), 3)
  return mine - (1 - part) * low - part * high


def recovered(runs: Runs) -> pd.DataFrame:
  """A row a (teacher, student, run): weak, strong (the ceiling) and student pass@1, and

      PGR = (student - weak) / (strong - weak)

  with low and high. weak: the teacher itself; strong: the student's size, trained alike on the
  problems' own solutions (recipe gold). The interval resamples problems for all three at once, and
  is widened by the seeds' spread (`bands.with_seeds`) about the line student = weak + PGR
  (strong - weak); it is NaN, and so is PGR, where the interval of the gap is not above 0.
  """
  rows, found = [], runs.policies[runs.policies['round'] > 0]
  for (teacher, model, name), run in found.groupby(['teacher', 'model', 'run'], sort=False):
    ceiling = found[(found['model'] == model) & (found['keep'] == 'gold')]
    both = run.merge(ceiling, on='seed', suffixes=('', '_gold'))
    both = both[np.isclose(both['sft_tokens'], both['sft_tokens_gold'], rtol=NEAR)]
    if not teacher or both.empty:
      continue
    banks = [*both['weak'], *both['bank_gold'], *both['bank']]
    three = np.stack(np.split(values(runs, banks, 'pass_1'), 3))  # [3, S, P]
    draws = _resampled(three)
    weak, strong, student = three.mean(axis=(1, 2))
    row = dict(teacher=teacher, model=model, run=name, seeds=three.shape[1])
    row |= dict(weak=weak, strong=strong, student=student)
    gap = draws[1] - draws[0]
    row |= dict(pgr=np.nan, low=np.nan, high=np.nan)
    if readings.band(three[1] - three[0])[0] > 0:
      row['pgr'] = pgr = (student - weak) / (strong - weak)
      low, high = np.quantile((draws[2] - draws[0]) / gap, [0.025, 0.975])
      line = three[2] - three[0] - pgr * (three[1] - three[0])
      by_seed = line.mean(axis=1) / (strong - weak)
      row['low'], row['high'] = bands.with_seeds(pgr, low, high, by_seed)
    rows.append(row)
  return pd.DataFrame(rows)


def _resampled(values: np.ndarray) -> np.ndarray:
  """[R, S, P] -> the means [R, BOOTSTRAPS] over seeds and resampled problems."""
  weights = bands.problem_weights(values.shape[2], BOOTSTRAPS, seed=0)
  return values.mean(axis=1) @ weights.T


def paths(runs: Runs) -> pd.DataFrame:
  """A row a (recipe, model) with three or more runs of different numbers of paths:

      pass@1 = intercept + slope log2(paths)

  by least squares on the runs' means; low, high: of the slope, over problems and seeds; held:
  the error at the most paths of a line through the others, and naive that of the nearest run.
  """
  rows, found = [], runs.policies[runs.policies['round'] == 1]
  found = found[(found['synthetic_paths'] > 0) & (found['keep'] != 'gold')]
  names = found['run'].str.extract(r'^(\w+)', expand=False)
  for (recipe, model), part in found.groupby([names, 'model'], sort=False):
    by_run = part.groupby('run')['synthetic_paths'].mean().sort_values()
    if by_run.nunique() < 3:
      continue
    seeds = set.intersection(*(set(part[part['run'] == run]['seed']) for run in by_run.index))
    banks = [
      part[(part['run'] == run) & (part['seed'] == seed)]['bank'].iloc[0]
      for run in by_run.index for seed in sorted(seeds)
    ]  # fmt: skip
    if not banks:
      continue
    R = len(by_run)
    every = np.stack(np.split(values(runs, banks, 'pass_1'), R))  # [R, S, P]
    x, y = np.log2(by_run.to_numpy(np.float64)), every.mean(axis=(1, 2))
    slopes = np.polyfit(x, _resampled(every), 1)[0]
    slope, intercept = np.polyfit(x, y, 1)
    row = dict(recipe=recipe, model=model, runs=R, seeds=len(seeds), slope=slope)
    row |= dict(intercept=intercept, fewest=2 ** x[0], most=2 ** x[-1])
    low, high = np.quantile(slopes, [0.025, 0.975])
    by_seed = np.polyfit(x, every.mean(axis=2), 1)[0]
    row['low'], row['high'] = bands.with_seeds(slope, low, high, by_seed)
    row['held'] = abs(np.polyval(np.polyfit(x[:-1], y[:-1], 1), x[-1]) - y[-1])
    rows.append(row | dict(naive=abs(y[-1] - y[-2]), paths=by_run.to_list(), accuracy=y.tolist()))
  return pd.DataFrame(rows)


def _told(found: Found) -> list[str]:
  from analysis import self_training_words  # it reads what this makes

  lines = [f'- {line}' for line in self_training_words.words(found)]
  return [self_training_words.shown(found.watch, found.K).to_string(index=False), *lines]


def _write(found: Found, folder: Path) -> None:
  """The watch as CSV, the comparisons as JSON, and the pictures."""
  from analysis import self_training_plots

  folder.mkdir(parents=True, exist_ok=True)
  found.watch.to_csv(folder / 'watch.csv', index=False)
  (folder / 'comparisons.json').write_text(
    json.dumps({name: getattr(found, name).to_dict('records')
                for name in ('against', 'recovered', 'paths')}, indent=1)
  )  # fmt: skip
  for drawing in self_training_plots.figures(found):
    command.save(drawing.figure, '--out', folder / f'{drawing.name}.png')


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, where there is nothing to show."""
  its = command.parser('self_training', __doc__)
  its.add_argument('--study', help='its name; default: the newest of the workdir')
  its.add_argument('--out', type=Path, help='a folder for pictures and tables')
  return command.of_study(its, read, _told, {'out': _write}, argv)


if __name__ == '__main__':
  sys.exit(main())
