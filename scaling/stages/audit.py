"""Audits of what a workdir holds: reward models and judges that scored a bank, verifiers that did.

    python -m scaling.stages.audit WORKDIR

prints, of each, what `scaling.rewards.audit` measures on the target task's own samples, and the
ceiling that it sets on best-of-n, and writes it to WORKDIR/audits.parquet, a row an audit and k,
which `python -m analysis.audits` draws. What cannot be audited, say where no sample is right, is
left out, with a line that says why. A stage of RL whose reward is a model's score asks `gate`
before its first update; one whose reward is a judge asks `gate_judge`, which has it judge first.
"""

import argparse
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import estimators
from scaling import bank, files, processes
from scaling.errors import BadInput
from scaling.rewards import audit, reward_model
from scaling.stages import stage as stages

JUDGED = 8  # samples of each problem that a judge is audited on


class Found(NamedTuple):
  """An audit, and what best-of-k makes of the same verdicts."""

  what: str
  audit: audit.Audit
  ks: list[int]
  expected: np.ndarray  # [K]: by the rates alone, mistakes independent
  measured: np.ndarray  # [K]: of the verdicts as they are, exact over subsets of k
  ceiling: float  # by the rates alone
  within: tuple[float, float]  # AUC of samples of one problem, mean over problems, standard error


def compare(what: str, table: pd.DataFrame) -> Found:
  """The audit of verdicts on a bank.

  table: problem, correct (the gold verdict), said (1, 0 or NaN), and score where verdicts come of
  one; a row a sample, as many of each problem. BadInput where all samples are right, or wrong.
  """
  found = audit.audit(table['correct'], table['said'], table['problem'])
  groups = [group for _, group in table.groupby('problem', sort=False)]
  n = min(map(len, groups))
  gold = np.stack([group['correct'].to_numpy(np.float64)[:n] for group in groups])
  said = np.stack([group['said'].fillna(0).to_numpy(np.float64)[:n] for group in groups])
  ks = estimators.default_ks(n)
  rates = found.false_positive.value, found.false_negative.value
  scored = table.get('score', table['said']).fillna(0).to_numpy(np.float64)
  ranked = reward_model.auc_within(scored, table['correct'], table['problem'])
  return Found(
    what,
    found,
    ks,
    audit.best_of_counts(n, gold.sum(axis=1).astype(int), *rates, ks),
    estimators.best_of_k(said, gold, ks).mean(axis=0),
    audit.ceiling(gold.mean(axis=1), *rates),
    estimators.mean_and_stderr(ranked) if len(ranked) > 1 else (np.nan, np.nan),
  )


def of_scores(workdir: Path, stage_id: str) -> Found:
  """Of a reward model, by a finished stage of kind score. BadInput where it is not one."""
  folder = stages.folder(workdir, stage_id)
  if not (folder / 'scores.parquet').exists():
    raise BadInput(f'{folder}: no scores.parquet: an audit reads a finished stage of kind score')
  stage = files.read_json(folder / 'stage.json')
  gold = bank.of_stage(workdir, stage['parent'], ['problem', 'sample', 'correct'])
  scores = pd.read_parquet(folder / 'scores.parquet', columns=['problem', 'sample', 'score'])
  table = gold.merge(scores, on=['problem', 'sample'], validate='1:1')
  said = audit.thresholded(table['correct'], table['score'], table['problem'])
  return compare(f'{stage_id} ({stage["label"]})', table.assign(said=said))


def of_verdicts(where: Path, name: str) -> Found:
  """Of a verifier, by its `bank.rescore` of a bank, against the verdicts that the bank has."""
  columns = ['problem', 'sample']
  gold = bank.read(where, [*columns, 'correct'])
  other = bank.read(where, [*columns, 'reward'], verdicts=name).rename(columns={'reward': 'said'})
  return compare(f'verifier {name} of {where.name}', gold.merge(other, on=columns, validate='1:1'))


def gate(workdir: Path, stage_id: str, least_accuracy: float) -> Found:
  """`of_scores`, and BadInput where it, or its ranking within problems, is below least_accuracy."""
  found = of_scores(workdir, stage_id)
  audit.require(found.audit, found.within[0], least_accuracy, found.what)
  return found


def gate_judge(setting: stages.Setting, stage, problems, says: Callable) -> dict:
  """Audits a judge on samples of the parent's bank, and returns the ledger of what it read.

  stage: of RL, whose recipe names the bank (`scored`) and `least_accuracy`, below which BadInput is
  raised; problems: of the bank; says: a feedback of `stages.teachers`. What it said is kept in the
  stage's judged.parquet, and it is asked once.
  """
  folder = stages.folder(setting.workdir, stage.id)
  table_path, ledger_path = folder / 'judged.parquet', folder / 'judged.json'
  if not processes.once(ledger_path.exists):
    columns = ['problem', 'sample', 'correct', 'response']
    drawn = bank.of_stage(setting.workdir, stage.recipe['scored'], columns)
    drawn = drawn[drawn['sample'] < JUDGED].sort_values(['problem', 'sample'])
    of = {problem.id: problem for problem in problems}
    groups = list(drawn.groupby('problem', sort=False))
    texts = [group['response'].tolist() for _, group in groups]
    values, ledger = says([of[name] for name, _ in groups], texts, None, None)
    files.write_table(table_path, drawn.assign(score=np.asarray(values).ravel()))
    files.write_json(ledger_path, ledger)

  def passed() -> dict:
    found = of_judge(folder)
    least = stage.recipe['least_accuracy']
    audit.require(found.audit, found.within[0], least, found.what)
    return files.read_json(ledger_path)

  return processes.once(passed)


def of_judge(folder: Path) -> Found:
  """Of a judge, by what it said before a stage of RL: the folder of that stage."""
  table, stage = pd.read_parquet(folder / 'judged.parquet'), files.read_json(folder / 'stage.json')
  said = audit.thresholded(table['correct'], table['score'], table['problem'])
  return compare(f'{folder.name} ({stage["recipe"]["reward"]})', table.assign(said=said))


def text(found: Found) -> str:
  """An audit in a few lines."""
  one, span = found.audit, lambda rate: f'{rate.value:.3f} ({rate.lower:.3f} to {rate.upper:.3f})'
  lines = [
    found.what,
    f'  {one.samples} samples of {one.problems} problems, {one.right:.3f} of them right; '
    f'no verdict on {one.failed:.3f}',
    f'  false positives {span(one.false_positive)}, false negatives {span(one.false_negative)}',
    f'  precision {span(one.precision)}, balanced accuracy {one.accuracy:.3f}',
    f'  of two samples of one problem, one right, it prefers that in {found.within[0]:.3f} '
    f'(standard error {found.within[1]:.3f})',
  ]
  for k, expected, measured in zip(found.ks, found.expected, found.measured, strict=True):
    lines.append(f'  best of {k:<3} {measured:.3f}, by its rates alone {expected:.3f}')
  return '\n'.join([*lines, f'  ceiling     {found.ceiling:.3f}, by its rates alone'])


def rows(found: Found) -> list[dict]:
  """An audit as rows, one a k: its rates with their intervals, and best-of-k."""
  rates = {}
  for name in ('false_positive', 'false_negative', 'precision'):
    rate = getattr(found.audit, name)
    rates |= {name: rate.value, f'{name}_low': rate.lower, f'{name}_high': rate.upper}
  same = {'what': found.what, **rates, 'accuracy': found.audit.accuracy, 'ceiling': found.ceiling}
  same |= {'within': found.within[0], 'within_stderr': found.within[1]}
  same |= {name: getattr(found.audit, name) for name in ('right', 'failed', 'samples', 'problems')}
  best = zip(found.ks, found.expected, found.measured, strict=True)
  return [same | {'k': k, 'expected': e, 'measured': m} for k, e, m in best]


def everything(workdir: Path) -> dict[str, Callable[[], Found]]:
  """What a workdir allows to audit, by name, and the function that does. BadInput for nothing."""
  files_of, todo = lambda pattern: sorted(Path(workdir).glob(pattern)), {}
  for path in files_of('stages/score-*/scores.parquet'):
    todo[path.parent.name] = functools.partial(of_scores, workdir, path.parent.name)
  for path in files_of('stages/rl-*/judged.parquet'):
    todo[path.parent.name] = functools.partial(of_judge, path.parent)
  for path in files_of('banks/*/_verdicts-*.parquet'):
    where, name = path.parent, path.stem.removeprefix('_verdicts-')
    todo[f'verifier {name} of {where.name}'] = functools.partial(of_verdicts, where, name)
  if not todo:
    raise BadInput(
      f'{workdir}: no scores and no rescored bank to audit: set config.scorers.objectives and '
      'config.scorers.policies, or call bank.rescore'
    )
  return todo


def main(argv=None) -> int:
  """0; or 2 where nothing could be audited. What could not has a line on stderr."""
  parser = argparse.ArgumentParser(prog='python -m scaling.stages.audit')
  parser.add_argument('workdir', type=Path)
  workdir = parser.parse_args(argv).workdir
  try:
    todo = everything(workdir)
  except BadInput as error:
    print(f'audit: {error}', file=sys.stderr)
    return 2
  found = []
  for what, measure in todo.items():
    try:
      found.append(measure())
    except BadInput as error:
      print(f'{what}: {error}', file=sys.stderr)
  if not found:
    return 2
  print('\n'.join(map(text, found)))
  table = pd.DataFrame([row for one in found for row in rows(one)])
  files.write_table(workdir / 'audits.parquet', table)
  return 0


if __name__ == '__main__':
  sys.exit(main())
