"""Stage `rollouts`: labels for a process reward model, by Monte Carlo (Math-Shepherd, 2312.08935).

From the end of each step of a few responses of each problem of a bank, n completions are drawn and
verified; the step's soft label is the part that is right of those with a verdict. Nothing follows
the end of a response, so its label is its verdict. A step without any verdict (they timed out, say)
has no label. Responses of a problem that begin alike share a label.

Parts of PART prefixes are written when they are done, and a stage that was cut off goes on with
those that are missing. It leaves labels.parquet: problem, sample, step (0, 1, …), end (the index of
the step's last token in the response), value.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from scaling import compute, files, processes
from scaling.data import batches
from scaling.rewards import reward_model
from scaling.rewards.verifiers import verify_all
from scaling.search import outcome
from scaling.stages import preference
from scaling.stages import stage as stages

PART = 256  # prefixes


def steps_of(table: pd.DataFrame, ending: set[int], per_problem: int) -> pd.DataFrame:
  """problem, sample, step, end of the first `per_problem` distinct responses of each problem."""
  rows, seen = [], {}
  for row in table.itertuples():
    texts = seen.setdefault(row.problem, set())
    text = tuple(row.tokens)
    if len(texts) == per_problem or text in texts:
      continue
    texts.add(text)
    for step, end in enumerate(reward_model.step_ends(text, ending)):
      rows.append({'problem': row.problem, 'sample': row.sample, 'step': step, 'end': end})
  return pd.DataFrame(rows)


def part_path(folder: Path, number: int) -> Path:
  """Where a part's labels and ledger are kept."""
  return Path(folder) / 'parts' / f'{number:05d}.json'


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Rolls out the parts that are not there yet, then writes the labels."""
  recipe, folder = stage.recipe, stages.folder(setting.workdir, stage.id)
  cfg = stages.model(recipe)
  data_folder, data = stages.load_data(setting.workdir, recipe)
  columns = [*preference.READ, 'reward']
  table = preference.read_bank(setting.workdir, recipe, data.vocab, columns=columns)
  ending = reward_model.step_tokens(data.vocab, outcome.ends_of_steps(data.spec['style']))
  steps = steps_of(table, ending, recipe['per_problem'])
  of_bank = {(row.problem, row.sample): row for row in table.itertuples()}
  prompts = {row.problem: data.vocab.prompt(row.prompt) for row in table.itertuples()}
  by_id = {p.id: p for p in batches.problems(data_folder, preference.pool_of(setting, recipe))}
  begun = lambda row: (row.problem, *of_bank[row.problem, row.sample].tokens[: row.end + 1])
  whole = lambda row: row.end + 1 == len(of_bank[row.problem, row.sample].tokens)
  open_ = dict.fromkeys(begun(row) for row in steps.itertuples() if not whole(row))
  prefixes = list(open_)
  parts = range(0, len(prefixes), PART)
  there = processes.once(
    lambda: [i for i in range(len(parts)) if part_path(folder, i).exists()]
  )  # fmt: skip
  (folder / 'parts').mkdir(parents=True, exist_ok=True)
  seconds, generator = stages.stopwatch({'seconds': 0.0}), None
  for number, first in enumerate(parts):
    if number not in there:
      if generator is None:
        generator = stages.generator(
          setting, stage.parent, recipe, 'steps', recipe['temperature'], recipe['response_tokens']
        )
      some = prefixes[first : first + PART]
      try:
        found = roll_out(generator, cfg, data.vocab, prompts, by_id, some, recipe)
      except ArithmeticError as error:
        raise stages.NonFinite(f'part {number + 1}: {error}', generator.spent()) from error
      files.write_json(part_path(folder, number), found)
    setting.progress((number + 1) / len(parts), f'part {number + 1} of {len(parts)}')
    if processes.preempted():
      raise processes.Preempted

  found = processes.once(
    lambda: [files.read_json(part_path(folder, i)) for i in range(len(parts))]
  )  # fmt: skip
  values = [value for part in found for value in part['values']]
  value_of = dict(zip(prefixes, values, strict=True))
  steps['value'] = [
    float(of_bank[row.problem, row.sample].reward) if whole(row) else value_of[begun(row)]
    for row in steps.itertuples()
  ]
  files.write_table(folder / 'labels.parquet', steps.dropna(subset='value'))
  ledger = compute.add(compute.empty(), *(part['ledger'] for part in found))
  cell, path = stages.path_of(setting, stage)
  stages.finish(setting, stage, cell, path, {'ledger': ledger, 'seconds': seconds()})


def roll_out(generator, cfg, vocab, prompts: dict, by_id: dict, some: list, recipe: dict) -> dict:
  """{'values': of n completions of each prefix the part that is right, 'ledger'}.

  The part is of those with a verdict; NaN where there is none. some: (problem, *tokens of the
  response so far). Model FLOPs count each prefix once; those executed are the generator's.
  """
  n, most = recipe['n'], recipe['response_tokens']
  problems, begun = [one[0] for one in some], [list(one[1:]) for one in some]
  room = [most - len(tokens) for tokens in begun]
  goes_on = [i for i, more in enumerate(room) if more > 0]
  values, whole = [0.0] * len(some), [prompts[p] + t for p, t in zip(problems, begun, strict=True)]
  ledger = compute.empty()
  if goes_on:
    drawn = generator.draw([whole[i] for i in goes_on], n=n, limit=[room[i] for i in goes_on])
    said = [
      [vocab.decode(begun[i] + done.tokens) if done.stopped else '' for done in completions]
      for i, completions in zip(goes_on, drawn, strict=True)
    ]
    verdicts = verify_all([by_id[problems[i]] for i in goes_on], said)
    for i, ones in zip(goes_on, verdicts, strict=True):
      judged = [verdict.correct for verdict in ones if verdict.status == 'ok']
      values[i] = sum(judged) / len(judged) if judged else math.nan
    lengths = np.array([[len(done.tokens) for done in completions] for completions in drawn])
    model = compute.generate(cfg, [len(whole[i]) for i in goes_on], lengths, 0, 0, 0)['model']
    ledger = {'model': model, 'executed': generator.spent()['executed']}
  return {'values': values, 'ledger': ledger}
