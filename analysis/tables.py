"""Reads a workdir into tables: records, per-problem counts, votes, training curves.

A study that was interrupted loads what it has: stages without a result are skipped.
"""

import difflib
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.errors import BadInput

FORMAT = 1
CELL = ['seed', 'model', 'pretrain_tokens', 'sft_tokens', 'rl_algorithm', 'rl_updates']
ABOUT = [  # columns that describe a cell; `counts` carries those that the records have
  *('params', 'params_non_embedding', 'sft_unique_tokens', 'rl_samples', 'trunk'),
  *('temperature', 'pretrain_flops', 'sft_flops', 'rl_flops', 'executed_flops'),
  *('query_prefill_flops', 'sample_decode_flops'),
]


class Study(NamedTuple):
  """All that a report reads of one study."""

  name: str
  records: pd.DataFrame  # one row a measurement
  counts: pd.DataFrame  # one row a cell x problem: c correct of n drawn; empty without banks
  votes: pd.DataFrame  # one row a bank x problem x answer: count, correct; answer null: no answer
  curves: pd.DataFrame  # one row a logged training step
  ledger: pd.DataFrame  # one row a stage x kind of FLOPs: model, executed
  plan: dict  # studies/<name>.json
  outcomes: dict  # stage id -> its done.json; absent where the stage has not ended
  workdir: Path


def most_pretrained(rows: pd.DataFrame) -> pd.DataFrame:
  """Those of each model's base of the most pretraining tokens: what a law of one base is fitted to,
  where a study has several."""
  most = rows.groupby('model')['pretrain_tokens'].transform('max')
  return rows[rows['pretrain_tokens'] == most]


def plans(workdir, study: str | None = None) -> dict[str, dict]:
  """Name -> plan of the studies in a workdir, the newest last; one of them if `study` is named.

  BadInput where the workdir is none, is of another format, or holds no such study.
  """
  workdir = Path(workdir)
  paths = sorted((workdir / 'studies').glob('*.json'), key=lambda p: (p.stat().st_mtime_ns, p.name))
  if not paths:
    raise BadInput(
      f'{workdir}: no studies/*.json there, so no study has run in it; run one with '
      f'python run.py --config=experiments/quickstart.py --workdir={workdir}'
    )
  version = workdir / 'version.json'
  found = _json(version).get('format') if version.exists() else None
  if found != FORMAT:
    raise BadInput(f'{version}: format {found}, this code reads {FORMAT}; use a fresh workdir')
  names = [path.stem for path in paths]
  if study is not None and study not in names:
    near = difflib.get_close_matches(study, names, n=1, cutoff=0.0)[0]
    raise BadInput(
      f'{workdir}: holds no study {study!r}; nearest: {near!r}; there are: {", ".join(names)}'
    )
  return {path.stem: _json(path) for path in paths if study in (None, path.stem)}


def load(workdir, study: str | None = None) -> pd.DataFrame:
  """Records, one row a measurement, with a `study` column; of all studies where none is named.

  A stage that two studies share is there once for each of them. Policies that learned from samples
  are among them, and `analysis.self_training` is about them: see `crossed`.
  """
  tables = []
  for name, plan in plans(workdir, study).items():
    for path in stage_files(workdir, plan, 'records.parquet'):
      tables.append(parquet(path).assign(study=name))
  if not tables:
    stopped = _not_finite(workdir, plans(workdir, study).values())
    if stopped:
      raise BadInput(
        f'{Path(workdir)}: no records, as the loss was not finite in {stopped}; '
        'lower the learning rate there'
      )
    raise BadInput(
      f'{Path(workdir)}: its studies have no records yet; run the same command again, '
      'it resumes where it stopped'
    )
  records = pd.concat(tables, ignore_index=True)
  return records[['study', *records.columns.drop('study')]]


def crossed(records: pd.DataFrame) -> pd.DataFrame:
  """The records of the crossed study, size x SFT tokens x RL: without the runs of config.synthetic,
  whose cells differ in more than that, and of the largest pool."""
  if 'synthetic' in records:
    records = records[records['synthetic'] == 'none']
  return largest_pool(records).reset_index(drop=True)


def largest_pool(rows: pd.DataFrame) -> pd.DataFrame:
  """Of cells whose SFT drew from pools of different sizes (config.sft.unique_tokens), those of the
  largest of their seed and model. The others are for `analysis.sft`."""
  if 'sft_pool_tokens' not in rows:
    return rows
  pools = rows.groupby(['seed', 'model', 'pretrain_tokens'])['sft_pool_tokens']
  smaller = rows['sft_pool_tokens'] < pools.transform('max')
  return rows[~smaller | (rows['sft_tokens'] == 0)]


def load_bank(workdir, columns: list[str] | None = None, study: str | None = None) -> pd.DataFrame:
  """Rows of the rollout banks, one a sample; `columns` reads only those.

  Of each measured sample stage what it asked for: its first n samples of its first problems.
  Stages may share a bank; `stage` is the id of the one whose rows they are. A bank that was not
  measured, as those that reward models learn from, is read by `stage_bank`.
  """
  tables = [_rows(folder, stage, columns) for stage, folder in _banks(workdir, study).items()]
  for plan in plans(workdir, study).values():  # of a model behind an API: all that it was asked
    tables += [parquet(path, columns) for path in stage_files(workdir, plan, 'bank/*.parquet')]
  if not tables:
    raise BadInput(f'{Path(workdir)}: holds no rollout bank; add a sample stage to the study')
  return pd.concat(tables, ignore_index=True)


def bank_folder(workdir, stage: dict) -> Path:
  """Where the bank of a sample stage (its stage.json) is: as scaling.bank.folder_of."""
  kept = {k: v for k, v in stage['recipe'].items() if k not in ('n', 'problems', 'measure')}
  text = json.dumps({'parent': stage['parent'], 'recipe': kept}, sort_keys=True)
  return Path(workdir) / 'banks' / hashlib.sha256(text.encode()).hexdigest()[:10]


def _banks(workdir, study=None) -> dict[str, Path]:
  """Stage id -> the folder of its bank, of the measured sample stages that have begun one."""
  found = {}
  for plan in plans(workdir, study).values():
    for path in stage_files(workdir, plan, 'stage.json'):
      stage = _json(path)
      if stage['kind'] != 'sample' or not stage['recipe'].get('measure', True):
        continue
      folder = bank_folder(workdir, stage)
      if any(folder.glob('shard-*.parquet')):
        found[stage['id']] = folder
  return found


def stage_bank(workdir, stage_id: str, columns=None) -> pd.DataFrame:
  """The rows that a sample stage asked for, in the order of its pool."""
  stage = _json(Path(workdir) / 'stages' / stage_id / 'stage.json')
  return _rows(bank_folder(workdir, stage), stage_id, columns)


def _rows(folder: Path, stage_id: str, columns) -> pd.DataFrame:
  recipe = _json(folder.parents[1] / 'stages' / stage_id / 'stage.json')['recipe']
  needed = None if columns is None else list(dict.fromkeys([*columns, 'place', 'sample']))
  parts = []
  for path in sorted(folder.glob('shard-*.parquet')):
    part = parquet(path, needed)
    asked = (part['sample'] < recipe['n']) & (part['place'] < recipe['problems'])
    parts.append(part[asked])
  table = pd.concat(parts).sort_values(['place', 'sample'], ignore_index=True)
  if 'stage' in table:
    table['stage'] = stage_id
  return table if columns is None else table[list(columns)]


def counts(workdir, study: str | None = None) -> pd.DataFrame:
  """One row a cell x problem: c correct of n drawn, with the cell's columns and its `bank`."""
  return _counts(load_votes(workdir, study), crossed(load(workdir, study)))


def load_votes(workdir, study: str | None = None) -> pd.DataFrame:
  """One row a bank x problem x answer: `count` samples gave it, `correct` is their verdict.

  `answer` is null where a sample gave no answer: an abstention in a vote.
  """
  keys = ['stage', 'problem', 'answer', 'correct']
  banks = _banks(workdir, study)
  if not banks:
    raise BadInput(f'{Path(workdir)}: holds no rollout bank; add a sample stage to the study')
  bank = pd.concat([_rows(folder, stage, keys) for stage, folder in banks.items()])
  votes = bank.groupby(keys, dropna=False, observed=True).size().rename('count').reset_index()
  return votes.rename(columns={'stage': 'bank'})


def curves(workdir, study: str | None = None) -> pd.DataFrame:
  """Training curves: one row a logged step, with its stage's id, kind, label and seed."""
  tables = []
  for plan in plans(workdir, study).values():
    for stage in plan['stages']:
      path = Path(workdir) / 'stages' / stage['id'] / 'metrics.parquet'
      if path.exists():
        about = {'stage': stage['id'], 'kind': stage['kind'], 'label': stage['label']}
        tables.append(parquet(path).assign(**about, seed=stage.get('seed')))
  return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def read(workdir, study: str | None = None) -> Study:
  """A study's tables; the newest of the workdir where none is named."""
  name, plan = list(plans(workdir, study).items())[-1]
  records = crossed(load(workdir, name))
  has_bank = bool(_banks(workdir, name))
  votes = load_votes(workdir, name) if has_bank else pd.DataFrame()
  outcomes = {path.parent.name: _json(path) for path in stage_files(workdir, plan, 'done.json')}
  return Study(
    name=name,
    records=records,
    counts=_counts(votes, records) if has_bank else pd.DataFrame(),
    votes=votes,
    curves=curves(workdir, name),
    ledger=_ledger(plan, outcomes),
    plan=plan,
    outcomes=outcomes,
    workdir=Path(workdir),
  )


def _counts(votes, records):
  correct = votes['count'].where(votes['correct'], 0)
  tallies = votes.assign(c=correct).groupby(['bank', 'problem'], as_index=False, observed=True)
  tallies = tallies.agg(c=('c', 'sum'), n=('count', 'sum'))
  drawn = records[(records['metric'] == 'accuracy') & (records['strategy'] == 'oracle')]
  cells = drawn.sort_values('k').drop_duplicates('bank')
  cells = cells.assign(sample_decode_flops=cells['query_decode_flops'] / cells['k'])
  columns = [c for c in CELL + ABOUT if c in cells]
  return tallies.merge(cells[['bank', *columns]], on='bank', how='inner')


def _ledger(plan, outcomes):
  rows = []
  for stage in plan['stages']:
    ledger = outcomes.get(stage['id'], {}).get('ledger', {})
    for kind in ledger.get('model', {}):
      model, executed = ledger['model'][kind], ledger.get('executed', {}).get(kind, float('nan'))
      rows.append((stage['id'], stage['kind'], kind, float(model), float(executed)))
  return pd.DataFrame(rows, columns=['stage', 'stage_kind', 'kind', 'model', 'executed'])


def _not_finite(workdir, found) -> str:
  """The labels of stages that ended non-finite, the first three of them."""
  labels = []
  for plan in found:
    ended = {path.parent.name: _json(path) for path in stage_files(workdir, plan, 'done.json')}
    for stage in plan['stages']:
      if ended.get(stage['id'], {}).get('outcome') == 'non-finite':
        labels.append(repr(str(stage.get('label') or stage['id'])))
  labels = list(dict.fromkeys(labels))
  return ', '.join(labels[:3]) + (f' and {len(labels) - 3} more' if len(labels) > 3 else '')


def stage_files(workdir, plan, pattern) -> list[Path]:
  """The files that a plan's stages have by this pattern."""
  stages = [Path(workdir) / 'stages' / stage['id'] for stage in plan['stages']]
  return [path for stage in stages for path in sorted(stage.glob(pattern))]


def _json(path: Path) -> dict:
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise BadInput(
      f'{path}:{error.lineno}: not JSON ({error.msg}); delete it and run again'
    ) from None


def parquet(path: Path, columns=None) -> pd.DataFrame:
  """The table of a file of a workdir. BadInput where it is not readable."""
  try:
    return pd.read_parquet(path, columns=columns)
  except (OSError, ValueError) as error:
    reason = str(error).splitlines()[0]
    raise BadInput(f'{path}: not readable ({reason}); delete its stage and run again') from None
