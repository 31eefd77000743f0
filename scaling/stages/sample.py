"""Stage `sample`: the rollout bank of one model on the fixed test problems, and its measures."""

import numpy as np

from analysis import estimators
from scaling import bank, compute, processes, records, sample_step, sharding
from scaling.data import batches
from scaling.stages import stage as stages


def prompt_width(data: batches.Data) -> int:
  """Columns of a padded prompt: those of the longest, in eights."""
  return -(-data.max_prompt_tokens // 8) * 8


def cost(cfg, shape: sample_step.SampleShape, prompt_lengths, lengths_PxS) -> dict:
  """The ledger of one block of sampling, by the lengths of its prompts and responses."""
  steps = int(lengths_PxS.max()) - 1
  return compute.generate(
    cfg, prompt_lengths, lengths_PxS, shape.prompt_tokens, shape.response_tokens, steps
  )


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Draws the blocks of the bank that are not there yet, then writes its records."""
  recipe = stage.recipe
  cfg, how = stages.model(recipe), stages.mechanics(setting.how, recipe, setting.mesh)
  folder, data = stages.load_data(setting.workdir, recipe)
  problems = batches.problems(folder, 'test')[: recipe['problems']]
  where = stages.folder(setting.workdir, stage.id) / 'bank'
  P, S = recipe['block_prompts'], recipe['block_samples']
  sharding.check_rows(setting.mesh, P, 'config.sample.block_prompts')
  shape = sample_step.SampleShape(P, S, prompt_width(data), recipe['response_tokens'])
  params, key = None, stages.key(recipe['seed'], 'evaluation')
  blocks = [(p, s) for p in range(0, len(problems), P) for s in range(0, recipe['n'], S)]
  drawn_before = lambda: [i for i, b in enumerate(blocks) if bank.shard_path(where, *b).exists()]
  there = processes.once(drawn_before)
  ledger, seconds = compute.empty(), stages.stopwatch({'seconds': 0.0})
  for index, (p, s) in enumerate(blocks):
    part = problems[p : p + P]
    prompts, lengths, hashes = batches.encode_prompts(part, data.vocab, shape.prompt_tokens)
    if index not in there:
      if params is None:
        params = stages.state_of(setting.workdir, stage.parent, setting.mesh).params
        sample = sample_step.make_sampler(cfg, shape, data.vocab.stop, setting.mesh, how)
      asked = sharding.spread(sharding.rows(setting.mesh), (prompts, lengths, hashes))
      drawn = processes.gather(sample(params, *asked, key, 0, s, recipe['temperature']))
      if not np.isfinite(drawn.logprobs).all():
        raise stages.NonFinite(f'block {index + 1}: log-probs', ledger)
      table = bank.rows(stage.id, cfg, part, data.vocab, drawn, s, recipe['temperature'])
      bank.write(where, p, s, table)
    else:
      table = bank.read_shard(where, p, s, columns=['length'])
    ledger = compute.add(
      ledger, cost(cfg, shape, lengths, table['length'].to_numpy().reshape(P, S))
    )
    setting.progress((index + 1) / len(blocks), f'block {index + 1} of {len(blocks)}')
    if processes.preempted():
      raise processes.Preempted

  cell, path = stages.path_of(setting, stage)
  if processes.first():  # whose bank it is
    rows = measure(stage, cfg, bank.read(where), cell, path, setting.environment)
    records.write(setting.workdir, stage.id, rows)
  stages.finish(setting, stage, cell, path, {'ledger': ledger, 'seconds': seconds()})


def measure(stage, cfg, table, cell: dict, path: dict, environment: dict) -> list[dict]:
  """Records of a bank: pass@k and majority@k at k = 1, 2, 4, … n / 4, and how responses look."""
  by_problem = [group for _, group in table.groupby('problem', sort=False)]
  P, n = len(by_problem), len(by_problem[0])
  prompt, response = table['prompt_tokens'].mean(), table['length'].mean()

  def record(metric, per_problem, strategy='none', k=0):
    value, stderr = estimators.mean_and_stderr(np.asarray(per_problem, np.float64))
    prefill, decode = compute.query(cfg, prompt, response, k) if k else (0.0, 0.0)
    return records.row(
      stage, cell, path, environment,
      metric=metric, value=float(value), stderr=float(stderr), problems=P, samples=n, bank=stage.id,
      strategy=strategy, k=k, temperature=stage.recipe['temperature'],
      query_prefill_flops=prefill, query_decode_flops=decode,
    )  # fmt: skip

  ks = [2**i for i in range(n.bit_length()) if 2**i <= max(n // 4, 1)]
  correct = np.array([group['correct'].sum() for group in by_problem])
  rows = [record('accuracy', estimators.pass_at_k(n, correct, k), 'oracle', k) for k in ks]
  votes = [group.groupby('answer')['correct'].agg(['size', 'max']) for group in by_problem]
  for k in ks:
    rows.append(
      record(
        'accuracy',
        [
          estimators.majority_at_k(
            v['size'].to_numpy(), v['max'].to_numpy(bool), k, abstained=n - int(v['size'].sum())
          )
          for v in votes
        ],
        'majority',
        k,
      )
    )
  means = lambda values: values.groupby(table['problem'], sort=False).mean()
  rows.append(record('parse_rate', means(table['answer'].notna())))
  rows.append(record('truncation_rate', means(~table['stopped'])))
  rows.append(record('response_length', means(table['length'])))
  return rows
