"""What a study's tables say, before any law: losses, RL's changes, the ledger's totals."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from analysis import bands
from analysis.frontier import Quality
from analysis.tables import Study

NO_CHANGE = 'no change beyond noise'
PARENT = ['model', 'pretrain_tokens', 'sft_tokens']
RUN = [*PARENT, 'rl_algorithm']  # of RL: several may go on from one parent


def verdict(low: float, high: float, up: str, down: str) -> str:
  """The word for an interval of a difference: `up`, `down`, or no change beyond noise."""
  return up if low > 0 else down if high < 0 else NO_CHANGE


def token_column(loss: pd.DataFrame) -> str:
  """'sft_unique_tokens' where every one of several budgets repeats its own unique tokens; else
  'sft_tokens'."""
  if 'sft_unique_tokens' not in loss or (loss['sft_unique_tokens'] >= loss['sft_tokens']).any():
    return 'sft_tokens'
  sets = loss.groupby(['seed', 'model', 'pretrain_tokens'])['sft_unique_tokens']
  own = sets.size().max() > 1 and (sets.nunique() == sets.size()).all()
  return 'sft_unique_tokens' if own else 'sft_tokens'


def losses(study: Study) -> pd.DataFrame:
  """Held-out loss of the SFT cells, the mean over seeds: PARENT, params, tokens, value, stderr.

  stderr: over held-out problems, which all seeds share, and seeds; see `bands.stderr`.
  """
  rows = study.records
  rows = rows[(rows['metric'] == 'loss') & (rows['rl_updates'] == 0) & (rows['sft_tokens'] > 0)]
  rows = rows[np.isfinite(rows['value'])].drop_duplicates([*PARENT, 'seed'])
  if rows.empty:
    return pd.DataFrame(columns=[*PARENT, 'params_non_embedding', 'tokens', 'value', 'stderr'])
  column = token_column(rows)
  rows = rows.assign(tokens=rows[column].astype(float))
  result = []
  for key, cells in rows.groupby(PARENT):
    row = dict(zip(PARENT, key)) | {'seeds': len(cells), 'problems': cells['problems'].iloc[0]}
    row |= {'params_non_embedding': float(cells['params_non_embedding'].iloc[0])}
    row |= {'tokens': float(cells['tokens'].mean()), 'value': float(cells['value'].mean())}
    row |= {'axis': 'SFT tokens' if column == 'sft_tokens' else 'unique SFT tokens'}
    result.append(row | {'stderr': bands.stderr(cells['value'], cells['stderr'])})
  return pd.DataFrame(result).sort_values(['params_non_embedding', *PARENT[1:]], ignore_index=True)


def loss_changes(loss: pd.DataFrame, along: str) -> pd.DataFrame:
  """The change of held-out loss from the least to the most `along`, all else equal.

  along 'tokens' (of SFT): one row a model and base; 'params_non_embedding' and 'pretrain_tokens':
  one row for each of the others. low, high: 95 %, as if the two ends were independent (they share
  their problems, so it is wider than it need be).
  """
  same = {'tokens': 'sft_tokens', 'params_non_embedding': 'model'}
  by = [c for c in PARENT if c != same.get(along, along)]
  rows = []
  for key, cells in loss.groupby(by):
    cells = cells.sort_values(along)
    if cells[along].nunique() < 2:
      continue
    first, last = cells.iloc[0], cells.iloc[-1]
    change = last['value'] - first['value']
    error = 1.96 * np.hypot(first['stderr'], last['stderr'])
    rows.append(
      dict(zip(by, key))
      | {'first': first[along], 'last': last[along], 'tokens': last['tokens']}
      | {'params_non_embedding': last['params_non_embedding'], 'model': last['model']}
      | {'from': first['value'], 'to': last['value'], 'change': change}
      | {'low': change - error, 'high': change + error}
    )
  return pd.DataFrame(rows)


def rl_changes(quality: Quality, ks: Sequence[int] | None = None) -> pd.DataFrame:
  """Every RL point beside the SFT checkpoint it started from, on the same problems.

  One row a (RUN, rl_updates, k): value and parent (majority@k; k = 1 is pass@1) with their bands,
  change with its 95 % interval, paired by problem. Also `oracle_change`: of pass@k.
  """
  splits = quality.splits.reset_index(drop=True)
  rows = []
  for (*_, k), group in splits.groupby([*PARENT, 'k']):
    base = group[group['rl_updates'] == 0]
    after = group[group['rl_updates'] > 0].sort_values('rl_updates')
    if base.empty or after.empty or (ks is not None and k not in ks):
      continue
    start = base.index[0]
    for i, split in after.iterrows():
      about = ['params_non_embedding', 'rl_algorithm', 'rl_updates', 'rl_flops', 'k']
      row = split[[*PARENT, *about]].to_dict()
      row |= {'problems': quality.majority.shape[2], 'seeds': int(split['seeds'])}
      for name, values in (
        ('value', quality.majority[i]),
        ('parent', quality.majority[start]),
        ('change', quality.majority[i] - quality.majority[start]),
        ('oracle_change', quality.oracle[i] - quality.oracle[start]),
      ):
        row[name] = float(np.nanmean(values))
        row[f'{name}_low'], row[f'{name}_high'] = np.clip(band(values), -1, 1)
      rows.append(row)
  return pd.DataFrame(rows)


def last_changes(changes: pd.DataFrame) -> pd.DataFrame:
  """The rows of `rl_changes` at the last update of each run, smallest model first."""
  if changes.empty:
    return changes
  run = [*RUN, 'k']
  last = changes.sort_values('rl_updates').drop_duplicates(run, keep='last')
  return last.sort_values(['params_non_embedding', *run[1:]], ignore_index=True)


def band(values: np.ndarray) -> tuple[float, float]:
  """95 % interval of the mean of [S, P] over problems and seeds, see `bands.interval`; NaN
  where no problem, or one alone, is left."""
  values = values[~np.isnan(values).any(axis=1)]
  if 0 in values.shape:
    return np.nan, np.nan
  low, high = bands.interval(values)
  return float(low), float(high)


def ledger_totals(study: Study) -> pd.DataFrame:
  """FLOPs by stage kind and kind of FLOPs over the stages of a study that have ended."""
  totals = study.ledger.groupby(['stage_kind', 'kind'], as_index=False)[['model', 'executed']].sum()
  return totals[totals['model'] + totals['executed'] > 0].reset_index(drop=True)


def in_order(kinds) -> list[str]:
  """Kinds of stages in the order in which a study has them; those of test time last."""
  first = ['pretrain', 'sft', 'rl', 'sample', 'rollouts', 'preference', 'score', 'search']
  return [k for k in first if k in set(kinds)] + sorted(set(kinds) - set(first))


def several_runs(table: pd.DataFrame) -> bool:
  """Whether a table of cells or splits has several runs of RL, so that one has to be named."""
  return table.loc[table['rl_updates'] > 0, 'rl_algorithm'].nunique() > 1


def run_name(row, changes: pd.DataFrame) -> str:
  """'150k' and, where `changes` has runs of several algorithms, ', dapo'."""
  name = group_name(row, changes['pretrain_tokens'].nunique() > 1)
  return f'{name}, {row["rl_algorithm"]}' if changes['rl_algorithm'].nunique() > 1 else name


def group_name(row, many_pretraining: bool = False) -> str:
  """'150k' or, where a study has several pretraining budgets, '150k, 2M pretrained'."""
  from analysis.style import human

  pretrained = f', {human(row["pretrain_tokens"])} pretrained' if many_pretraining else ''
  return f'{row["model"]}{pretrained}'
