"""Stage `search`: a strategy that generates, on the test problems, at each of its budgets.

Work is cut into parts, (budget, run, problems from … on), each a file that is written when it is
done; a stage that was cut off goes on with the parts that are missing, to the same result. It
leaves outcomes.parquet, one row a problem, budget and run, and the records made of it.

The recipe: strategy; budgets; runs (repeats, with noise of their own); problems; temperature;
response_tokens; scorer (id of a preference stage, or None); options (of the strategy: the keyword
arguments of its `search`).
"""

import inspect
import math
from pathlib import Path

import pandas as pd

from analysis import strategies
from scaling import compute, files, processes, records
from scaling.data import batches
from scaling.environments.checker import ENVIRONMENTS
from scaling.errors import BadInput
from scaling.search import (
  beam,
  budget_forcing,
  dvts,
  episodes,
  many_shot,
  outcome,
  rebase,
  revision,
  self_verification,
)
from scaling.stages import preference
from scaling.stages import stage as stages

SEARCHES = {
  'beam': beam.search,
  'dvts': dvts.search,
  'rebase': rebase.search,
  'revision': revision.search,
  'self_verification': self_verification.search,
  'budget_forcing': budget_forcing.search,
  'many_shot': many_shot.search,
  'episodes': episodes.search,
}
PART = 64  # problems
WITH_SCORER = ('beam', 'dvts', 'rebase')
WITH_ATTEMPTS = ('revision', 'self_verification')
CHOICES = {'revision': revision.CHOICES, 'self_verification': revision.BY_SCORE}  # else outcome's
NAMES = {  # options that are one of these
  'aggregate': tuple(strategies.AGGREGATES),
  'force': budget_forcing.FORCED,
  'environment': tuple(ENVIRONMENTS),
}


def check(recipe: dict) -> None:
  """BadInput for a search that cannot run, as far as its recipe tells."""
  name, options = recipe['strategy'], recipe['options']
  if name not in SEARCHES:
    raise BadInput(
      f'config.search.strategies has {name!r}: it must be one of {", ".join(SEARCHES)}'
    )
  usual = _usual(name)
  for option, value in options.items():
    if option not in usual:
      raise BadInput(
        f'config.search.strategies has {name}({option}=…): {name} takes {", ".join(usual)}'
      )
    _check_option(name, option, value, type(usual[option]))
  if not recipe['budgets']:
    raise BadInput('config.search.budgets is empty: give at least one')
  for k in recipe['budgets']:
    outcome.check_budget(name, k)
    _check_budget(recipe, k, **usual | options)
  if recipe['scorer'] is None and scored(recipe):
    raise BadInput(f'{name}: it needs a scorer: set config.search.scorer to a process reward model')
  data = recipe['data']
  if name in WITH_ATTEMPTS and data['style'] == 'short' and not data['attempts']:
    raise BadInput(
      f'{name}: config.data.attempts is 0, so the model was never shown an attempt: set it, say to '
      '0.5'
    )


def _usual(name: str) -> dict:
  """The options of a search, with their defaults."""
  parameters = list(inspect.signature(SEARCHES[name]).parameters.values())[3:]
  return {parameter.name: parameter.default for parameter in parameters}


def _check_option(name: str, option: str, value, kind: type) -> None:
  """BadInput for an option's value of another type than its default, or one that cannot be."""
  words, fits = {
    str: ('text', lambda x: isinstance(x, str)),
    int: ('a whole number, at least 1', lambda x: type(x) is int and x >= 1),
    float: ('a number, more than 0', lambda x: type(x) in (int, float) and 0 < x < math.inf),
  }[kind]
  known = CHOICES.get(name, outcome.CHOICES) if option == 'choose' else NAMES.get(option)
  if not fits(value) or (known and value not in known):
    words = f'one of {", ".join(known)}' if known else words
    raise BadInput(
      f'config.search.strategies has {name}({option}={value!r}): {option} must be {words}'
    )


def _check_budget(recipe: dict, k: int, width=1, chains=1, **_) -> None:
  """BadInput for a budget that a strategy's options cannot share out, or a response cannot hold."""
  name, longest = recipe['strategy'], recipe['response_tokens']
  for word, part in (('width', min(width, k) if name == 'dvts' else 1), ('chains', chains)):
    if k % part:
      raise BadInput(
        f'config.search.budgets has {k}, which is not a multiple of {word}={part} of {name}: '
        'leave it out, or set another'
      )
  if name == 'budget_forcing' and k + 2 > longest:
    raise BadInput(
      f'budget_forcing: a budget of k = {k} tokens of thinking, and config.search.response_tokens '
      f'is {longest}: the mark and an answer need 2 more'
    )


def scored(recipe: dict) -> bool:
  """Whether a search uses its scorer."""
  by_score = recipe['options'].get('choose') in revision.BY_SCORE
  return recipe['strategy'] in WITH_SCORER or (recipe['strategy'] == 'revision' and by_score)


def named(recipe: dict) -> str:
  """What tables call a search: its name with the options it was given, 'beam(width=4)'."""
  options = ', '.join(f'{name}={value}' for name, value in recipe['options'].items())
  return f'{recipe["strategy"]}({options})' if options else recipe['strategy']


def part_path(folder: Path, k: int, run: int, first: int) -> Path:
  """Where a part is kept."""
  return Path(folder) / 'parts' / f'k{k:05d}-r{run:03d}-p{first:05d}.json'


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Searches the parts that are not there yet, then writes outcomes and records."""
  recipe, folder = stage.recipe, stages.folder(setting.workdir, stage.id)
  check(recipe)
  data_folder, _ = stages.load_data(setting.workdir, recipe)
  problems = batches.problems(data_folder, 'test')[: recipe['problems']]
  parts = [
    (k, run, first)
    for k in recipe['budgets']
    for run in range(recipe['runs'])
    for first in range(0, len(problems), PART)
  ]
  there = processes.once(
    lambda: [i for i, part in enumerate(parts) if part_path(folder, *part).exists()]
  )
  seconds = stages.stopwatch({'seconds': 0.0})
  (folder / 'parts').mkdir(parents=True, exist_ok=True)
  tools = scorer = None
  for index, (k, run_, first) in enumerate(parts):
    if index not in there:
      if tools is None:
        tools, scorer = make_tools(setting, stage, data_folder)
      some = problems[first : first + PART]
      try:
        found = SEARCHES[recipe['strategy']](some, tools._replace(run=run_), k, **recipe['options'])
      except ArithmeticError as error:
        raise stages.NonFinite(f'k = {k}: {error}', tools.generator.spent()) from error
      rows = [
        {'problem': one.problem, 'k': k, 'run': run_, 'value': one.value, **one.cost._asdict()}
        for one in found
      ]
      ledger = tools.generator.spent()
      if scorer is not None:
        ledger = compute.add(ledger, scorer())
      files.write_json(part_path(folder, k, run_, first), {'rows': rows, 'ledger': ledger})
      words = f'k {k}, problems {first + len(some)}, {tools.generator.programs()} programs'
      setting.progress((index + 1) / len(parts), words)
    if processes.preempted():
      raise processes.Preempted

  cell, path = stages.path_of(setting, stage)
  whole = processes.once(lambda: _collect(folder, parts))
  ledger = _ledger(whole)
  if processes.first():
    table = outcomes(stage, whole)
    files.write_table(folder / 'outcomes.parquet', table)
    records.write(setting.workdir, stage.id, measure(stage, table, cell, path, setting.environment))
  stages.finish(setting, stage, cell, path, {'ledger': ledger, 'seconds': seconds()})


def make_tools(setting: stages.Setting, stage: stages.Stage, data_folder: Path):
  """(Tools of a stage, what asks its scorer for its ledger or None)."""
  recipe = stage.recipe
  data = batches.load(data_folder)
  generator = stages.generator(
    setting, stage.parent, recipe, 'evaluation', recipe['temperature'], recipe['response_tokens']
  )
  scorer = spent = None
  if scored(recipe):
    scorer, spent = preference.step_scorer(setting, recipe['scorer'])
  examples = ()
  if recipe['strategy'] == 'many_shot':
    examples = batches.problems(data_folder, 'sft')
  tools = outcome.Tools(
    cfg=stages.model(recipe),
    vocab=data.vocab,
    style=data.spec['style'],
    generator=generator,
    response_tokens=recipe['response_tokens'],
    row_tokens=data.spec['row_tokens'],
    scorer=scorer,
    examples=examples,
  )
  return tools, spent


def _collect(folder: Path, parts) -> list[dict]:
  """What is in the files of all parts."""
  return [files.read_json(part_path(folder, *part)) for part in parts]


def _ledger(whole: list[dict]) -> dict:
  """Executed FLOPs as they were run; model FLOPs by the accounts of all queries."""
  ledger = compute.add(*(part['ledger'] for part in whole))
  rows = [row for part in whole for row in part['rows']]
  total = lambda name: float(sum(row[name] for row in rows))
  ledger['model'] |= {
    'prefill': total('prefill_flops'),
    'decode': total('decode_flops'),
    'reward_model': total('scorer_flops'),
  }
  return ledger


def outcomes(stage: stages.Stage, whole: list[dict]) -> pd.DataFrame:
  """outcomes.parquet of a stage: see analysis.strategies.OUTCOMES."""
  recipe = stage.recipe
  same = {
    'stage': stage.id,
    'strategy': named(recipe),
    'scorer': recipe['scorer'] if scored(recipe) else '',
    'error': 0.0,
  }
  table = pd.DataFrame([same | row for part in whole for row in part['rows']])
  return table[list(strategies.OUTCOMES)]


def measure(stage, table, cell: dict, path: dict, environment: dict) -> list[dict]:
  """Records: the accuracy at each budget, over problems and runs, and the cost of a query."""
  return [
    records.row(
      stage, cell, path, environment, metric='accuracy', samples=stage.recipe['runs'],
      temperature=stage.recipe['temperature'], **found,
    )
    for found in strategies.summary(table)
  ]  # fmt: skip
