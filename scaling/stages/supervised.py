"""Stages `pretrain` and `sft`: next-token loss on packed rows, from one step to another.

A sweep of token budgets is one trunk at constant rate, cut into segments, and for each budget a
branch that leaves the trunk and decays. A segment and a branch are the same stage: steps `start` to
`stop`, with the rate falling to zero over the `decay` steps before `end`, or never (None).
"""

import numpy as np

from scaling import compute, losses, processes, records, sharding, train_step
from scaling.data import batches
from scaling.stages import stage as stages

EVALUATION_ROWS = 64  # at a time, whatever the batch; more where mesh and microbatches need it


def evaluation_rows(mesh, how) -> int:
  """Rows at a time of the held-out loss: EVALUATION_ROWS, or the next that divides into parts."""
  ways = mesh.shape['data'] * mesh.shape['fsdp'] * how.microbatches
  return -(-EVALUATION_ROWS // ways) * ways


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Trains from `start` to `stop`, and measures the held-out loss where the recipe asks for it."""
  recipe, how = stage.recipe, stages.mechanics(setting.how, stage.recipe, setting.mesh)
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  folder, _ = stages.load_data(setting.workdir, recipe)
  state, meta, curve = stages.begin(setting, stage)
  ledger, step, seconds = meta['ledger'], int(state.step), stages.stopwatch(meta)
  train = None
  if step < recipe['stop']:
    packed, tally = batches.packed(folder, recipe['pool']), batches.tally(folder, recipe['pool'])
    B, T = recipe['rows'], packed.tokens.shape[1]
    sharding.check_rows(setting.mesh, B, f'config.{stage.kind}.rows')
    here, where = sharding.rows_here(setting.mesh, B), sharding.batch(setting.mesh)
    train = train_step.make_train_step(cfg, losses.cross_entropy, None, opt, setting.mesh, how)
  pending = None

  def settle(pending):  # reads the metrics of a step whose successor is already running
    row = stages.measured(pending, ledger)
    curve.append(row)
    if row['step'] % 10 == 0:
      stages.scalars(out, row, ('loss', 'grad_norm', 'learning_rate'))

  with stages.output(setting, stage, step) as out:
    while step < recipe['stop']:
      picked = batches.picked(len(tally), recipe['seed'], step, B)
      tokens, context, counted = (int(n) for n in tally[picked].sum(axis=0))
      rows = batches.read(packed, picked[here])
      # losses.mean_over_tokens, of the rows that are here
      rows['weights'] = rows.pop('loss_mask') / np.float32(counted)
      rate = train_step.learning_rate(
        step, recipe['learning_rate'], recipe['warmup'], recipe['end'], recipe['decay']
      )
      state, metrics = train(state, sharding.feed(where, B, rows), rate, 1.0)
      spent = compute.train(cfg, tokens, context, B, T, how.remat, how.loss_chunk)
      ledger = compute.add(ledger, spent)
      if pending is not None:
        settle(pending)
      pending = {'step': step, 'learning_rate': rate, 'tokens': tokens, **metrics}
      step += 1
      setting.progress(
        (step - recipe['start']) / (recipe['stop'] - recipe['start']), f'step {step}'
      )
      told_to_stop = processes.preempted()
      if out.due() or told_to_stop or step == recipe['stop']:
        settle(pending)
        stages.check_finite(state.params, f'step {step - 1}', ledger)
        pending = None
        stages.save(out, state, {'ledger': ledger, 'seconds': seconds()}, curve)
      if told_to_stop:
        raise processes.Preempted
    if recipe['stop'] == 0 and 'curve_rows' not in meta:  # no steps: the fresh model is the result
      stages.save(out, state, meta, curve)

  cell, path = stages.path_of(setting, stage)
  path[stage.kind] = compute.add(path[stage.kind], ledger)
  meta = {'ledger': ledger, 'seconds': seconds()}
  seen, distinct = tokens_seen(folder, recipe)
  if stage.kind == 'pretrain':
    cell = records.cell_of_model(recipe, cfg) | cell
    cell['pretrain_tokens'] += seen
  else:
    cell |= {'sft_tokens': seen, 'sft_unique_tokens': distinct, 'trunk': recipe['trunk']}
  cell['seconds'] += meta['seconds']
  if recipe['measure']:
    loss, stderr, count = held_out_loss(setting, cfg, state.params, folder, how)
    row = records.row(
      stage, cell, path, setting.environment,
      metric='loss', value=loss, stderr=stderr, problems=count,
    )  # fmt: skip
    records.write(setting.workdir, stage.id, [row])
  stages.finish(setting, stage, cell, path, meta)


def tokens_seen(folder, recipe) -> tuple[int, int]:
  """(all, distinct) real tokens that a branch has seen at its last step, by the pool's mean row."""
  if recipe['stop'] == 0:
    return 0, 0
  counts = batches.load(folder).counts[recipe['pool']]
  seen = recipe['stop'] * recipe['rows'] * counts['tokens'] / counts['rows']
  return round(seen), round(min(seen, counts['tokens']))


def held_out_loss(setting, cfg, params, folder, how) -> tuple[float, float, int]:
  """Mean of -log p over the response tokens of all validation problems, in nats.

  Returns (loss, standard error of the ratio with rows as clusters, problems).
  """
  score = train_step.make_score(cfg, setting.mesh, how)
  packed, where = batches.packed(folder, 'validation'), sharding.batch(setting.mesh)
  B, sums, weights = evaluation_rows(setting.mesh, how), [], []
  for start in range(0, len(packed.tokens), B):
    part = [np.asarray(field[start : start + B]) for field in packed]
    short = B - len(part[0])
    padded = [np.pad(field, ((0, short), (0, 0))) for field in part]
    names = ('tokens', 'positions', 'segment_ids')
    batch = dict(zip(names, (field.astype(np.int32) for field in padded)))
    logp = processes.gather(score(params, sharding.spread(where, batch), 1.0))
    mask = padded[3]
    sums.append(-(logp.astype(np.float64) * mask).sum(axis=1))
    weights.append(mask.sum(axis=1))
  y, w = np.concatenate(sums), np.concatenate(weights)
  y, w = y[w > 0], w[w > 0]
  loss, R = y.sum() / w.sum(), len(y)
  spread = R / (R - 1) * ((y - loss * w) ** 2).sum() if R > 1 else np.nan
  stderr = np.sqrt(spread) / w.sum()
  return float(loss), float(stderr), batches.load(folder).counts['validation']['problems']
