"""Stage `sample`: the rollout bank of one model on problems of a pool, and its measures.

The bank is kept in workdir/banks (`scaling.bank`), where stages of the same model and recipe share
it: this one draws what it asks for and what is not there. With recipe['measure'] it writes
outcomes.parquet, of the strategies that need no scorer (`analysis.strategies`), and its records.
"""

import numpy as np

from analysis import estimators, strategies
from scaling import bank, compute, files, processes, records, sample_step, sharding, stops
from scaling.data import batches
from scaling.stages import stage as stages
from scaling.truncation import Truncation


def prompt_width(data: batches.Data, made=()) -> int:
  """Columns of a padded prompt, in eights: `longest_prompt`."""
  return -(-longest_prompt(data, made) // 8) * 8


def longest_prompt(data: batches.Data, made=()) -> int:
  """Tokens of the longest prompt of data.task's pools and of further problems: made ones, or those
  that data.sft_tasks mixes into the SFT pool."""
  return max([data.max_prompt_tokens, *(len(data.vocab.prompt(p.prompt)) for p in made)])


def cost(cfg, shape: sample_step.SampleShape, prompt_lengths, drawn: sample_step.Samples) -> dict:
  """The ledger of one block of sampling, by its prompts' lengths [P] and what was drawn."""
  slots = sample_step.windows(shape)
  return compute.generate(
    cfg, prompt_lengths, drawn.lengths, shape.prompt_tokens, slots, drawn.steps, shape.rows
  )


def blocks_of(there, problems: int, n: int, prompts: int, samples: int) -> list:
  """[(places, first sample)] to draw: what is missing of problems x n, `prompts` of them at a time.

  there: [place, first sample] of what the bank has; a block has `samples` samples of a problem.
  """
  have = {tuple(cell) for cell in there}
  blocks = []
  for s in range(0, n, samples):
    lost = [p for p in range(problems) if (p, s) not in have]
    blocks += [(lost[i : i + prompts], s) for i in range(0, len(lost), prompts)]
  return sorted(blocks, key=lambda block: (block[0][0], block[1]))


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Draws the blocks of the bank that are not there yet, then measures."""
  recipe = stage.recipe
  cfg, how = stages.model(recipe), stages.mechanics(setting.how, recipe, setting.mesh)
  _, data = stages.load_data(setting.workdir, recipe)
  problems = stages.problems(setting.workdir, recipe)
  P, S = recipe['block_prompts'], recipe['block_samples']
  sharding.check_rows(setting.mesh, P, 'config.sample.block_prompts')
  shape = sample_step.SampleShape(
    P,
    S,
    recipe['block_rows'],
    prompt_width(data, problems),
    recipe['response_tokens'],
    recipe['prompt_chunk'],
  )
  truncation = Truncation(recipe['top_k'], recipe['top_p'], recipe['min_p'])
  ends = stops.table(data.vocab, [data.vocab.stop], recipe['stop'])
  where = bank.folder_of(setting.workdir, stage.parent, recipe)
  about = bank.identity(stage.parent, recipe)
  there = processes.once(lambda: bank.prepare(where, about))
  blocks = blocks_of(there, len(problems), recipe['n'], P, S)
  seconds, key = stages.stopwatch({'seconds': 0.0}), stages.key(recipe['seed'], 'evaluation')
  update = recipe.get('round', 0)  # of a chain: its rounds draw apart
  if blocks:
    params = stages.state_of(setting.workdir, stage.parent, setting.mesh).params
    sample = sample_step.make_sampler(cfg, shape, setting.mesh, how, truncation)
  for index, (places, s) in enumerate(blocks):
    part = [problems[p] for p in places]
    padded = part + part[-1:] * (P - len(part))  # a block has one shape
    prompts, lengths, hashes = batches.encode_prompts(padded, data.vocab, shape.prompt_tokens)
    asked = sharding.spread(sharding.rows(setting.mesh), (prompts, lengths, hashes))
    limits = sample_step.no_limits(shape)
    drawn = processes.gather(
      sample(params, *asked, key, update, s, recipe['temperature'], ends, limits)
    )
    if not np.isfinite(drawn.logprobs).all():
      raise stages.NonFinite(f'block {index + 1}: log-probs', bank.spent(where, stage.id))
    table = bank.rows(
      stage.id, cfg, part, data.vocab, drawn, s, recipe['temperature'], recipe['stop'], places
    )
    bank.write(where, table, cost(cfg, shape, lengths, drawn)['executed'])
    setting.progress((index + 1) / len(blocks), f'block {index + 1} of {len(blocks)}')
    if processes.preempted():
      raise processes.Preempted

  cell, path = stages.path_of(setting, stage)
  if processes.first():  # the bank is its own to read
    if recipe['measure']:
      table = bank.of_stage(setting.workdir, stage.id)
      outcomes = strategies.bank_outcomes(table, estimators.default_ks(recipe['n']), stage.id)
      files.write_table(stages.folder(setting.workdir, stage.id) / 'outcomes.parquet', outcomes)
      rows = measure(stage, table, outcomes, cell, path, setting.environment)
      records.write(setting.workdir, stage.id, rows)
  ledger = processes.once(lambda: bank.spent(where, stage.id))
  stages.finish(setting, stage, cell, path, {'ledger': ledger, 'seconds': seconds()})


def measure(stage, table, outcomes, cell: dict, path: dict, environment: dict) -> list[dict]:
  """Records of a bank: the accuracy of each strategy at each k, and how responses look."""
  common = dict(samples=stage.recipe['n'], bank=stage.id, temperature=stage.recipe['temperature'])
  rows = [
    records.row(stage, cell, path, environment, metric='accuracy', **found, **common)
    for found in strategies.summary(outcomes)
  ]
  for metric, values in (
    ('parse_rate', table['answer'].notna()),
    ('truncation_rate', ~table['stopped']),
    ('no_verdict_rate', table['reward'].isna()),
    ('response_length', table['length']),
  ):
    by_problem = values.groupby(table['problem'], sort=False).mean()
    value, stderr = estimators.mean_and_stderr(by_problem.to_numpy(np.float64))
    found = dict(metric=metric, value=float(value), stderr=float(stderr), problems=len(by_problem))
    rows.append(records.row(stage, cell, path, environment, **found, **common))
  return rows
