"""Stage `score`: a reward model's scores of a bank, and what can be done with them.

The model's problems must not be the bank's. It writes scores.parquet: problem, sample, score (the
probability of being right), steps (of a process reward model, that at the end of each step: the
last is the score), flops (model FLOPs of reading the response), prompt_flops (of its prompt, which
is read once for all of its samples); outcomes.parquet, of the strategies that a scorer allows
(`analysis.strategies`); and records of them and of the scores' quality: auc, auc_within,
verdict_accuracy, calibration_error; and of its audit: false_positive, false_negative, precision,
best_of_ceiling (`scaling.rewards.audit`).
"""

import contextlib
import math

import numpy as np
import pandas as pd

from analysis import estimators, strategies
from scaling import bank, files, processes, records
from scaling.errors import BadInput
from scaling.rewards import audit, reward_model
from scaling.search import outcome
from scaling.stages import audit as audits
from scaling.stages import preference
from scaling.stages import stage as stages


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Scores the whole bank of the parent in one pass, then measures. Cut off, it is done anew."""
  recipe, seconds = stage.recipe, stages.stopwatch({'seconds': 0.0})
  _, data = stages.load_data(setting.workdir, recipe)
  cfg, params, how, calibration, objective, trained = preference.load_scorer(
    setting, recipe['scorer']
  )
  about = f'bank {stage.parent}'
  table = preference.read_bank(setting.workdir, trained, data.vocab, stage.parent)
  learned = set()
  if trained['bank'] is not None:
    learned = set(bank.of_stage(setting.workdir, trained['bank'], ['problem'])['problem'])
  shared = learned & set(table['problem'])
  if shared:
    raise BadInput(
      f'{about}: {len(shared)} of its problems, as {min(shared)!r}, are among those that scorer '
      f'{recipe["scorer"]} learned from: score a bank of another pool'
    )
  found = reward_model.examples(table, data.vocab)
  places = found.places
  if objective == 'process':
    ending = reward_model.step_tokens(data.vocab, outcome.ends_of_steps(data.spec['style']))
    places = [
      start + np.array(reward_model.step_ends(tokens, ending))
      for start, tokens in zip(found.starts, table['tokens'], strict=True)
    ]

  def tell(part: float) -> None:
    setting.progress(part, f'{part:.0%} scored')
    if part < 1 and processes.preempted():
      raise processes.Preempted

  values, ledger = reward_model.values(
    cfg, params, found.sequences, places, setting.mesh, how, recipe['block_rows'], tell
  )
  if not all(np.isfinite(v).all() for v in values):
    raise stages.NonFinite('scores', ledger)
  steps = [calibration(v) for v in values]
  scores = pd.DataFrame(
    {
      'problem': table['problem'],
      'sample': table['sample'],
      'score': [one[-1] for one in steps],
      'steps': [one if objective == 'process' else None for one in steps],
      'flops': [
        reward_model.flops(cfg, len(sequence), int(start), len(at))
        for sequence, start, at in zip(found.sequences, found.starts, places, strict=True)
      ],
      'prompt_flops': [reward_model.flops(cfg, int(start), 0, 0) for start in found.starts],
    }
  )
  prompts = scores.groupby('problem')['prompt_flops'].first()
  ledger['model']['reward_model'] = float(scores['flops'].sum() + prompts.sum())

  cell, path = stages.path_of(setting, stage)
  if processes.first():
    folder = stages.folder(setting.workdir, stage.id)
    files.write_table(folder / 'scores.parquet', scores)
    whole = bank.of_stage(setting.workdir, stage.parent)
    ks = estimators.default_ks(int(whole.groupby('problem').size().min()))
    outcomes = strategies.scorer_outcomes(whole, scores, ks, stage.id, recipe['scorer'], objective)
    outcomes['scorer_flops'] += outcomes['problem'].map(prompts)
    files.write_table(folder / 'outcomes.parquet', outcomes)
    rows = measure(stage, whole, scores, outcomes, cell, path, setting.environment)
    records.write(setting.workdir, stage.id, rows)
  stages.finish(setting, stage, cell, path, {'ledger': ledger, 'seconds': seconds()})


def measure(stage, table, scores, outcomes, cell: dict, path: dict, environment: dict):
  """Records: the accuracy of each strategy at each k, and the quality of the scores."""
  common = dict(
    samples=int(table.groupby('problem').size().min()),
    bank=stage.parent,
    temperature=float(table['temperature'].iloc[0]),
  )
  row = lambda **measured: records.row(stage, cell, path, environment, **common, **measured)
  rows = [row(metric='accuracy', **found) for found in strategies.summary(outcomes)]
  quality = reward_model.quality(scores['score'], table['correct'], table['problem'])
  count = table['problem'].nunique()
  for metric, (value, stderr) in quality.items():
    stderr = None if math.isnan(stderr) else stderr
    rows.append(
      row(metric=metric, value=value, stderr=stderr, problems=count, scorer=stage.recipe['scorer'])
    )
  with contextlib.suppress(BadInput):  # too few are right, or wrong, to audit it by
    said = audit.thresholded(table['correct'], scores['score'], table['problem'])
    found = audits.compare(stage.id, table.assign(said=said))
    known = dict(problems=count, scorer=stage.recipe['scorer'])
    for metric in ('false_positive', 'false_negative', 'precision'):
      rate = getattr(found.audit, metric)
      stderr = (rate.upper - rate.lower) / 3.92  # of its 95 % interval
      rows.append(row(metric=metric, value=rate.value, stderr=stderr, **known))
    rows.append(row(metric='best_of_ceiling', value=found.ceiling, stderr=None, **known))
  return rows
