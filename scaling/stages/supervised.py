"""Stages `pretrain` and `sft`: next-token loss on packed rows, from one step to another.

A sweep of token budgets is one trunk at constant rate, cut into segments, and for each budget a
branch that leaves the trunk and decays. A segment and a branch are the same stage: steps `start` to
`stop`, with the rate falling to zero over the `decay` steps before `end`, or never (None).

With recipe['synthetic'], the id of a stage of kind synthesize, a `mix` of each batch's rows is of
the SFT pool and the others are of that stage's examples.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaling import compute, losses, processes, records, sharding, train_step
from scaling.data import batches, mixing
from scaling.errors import BadInput
from scaling.stages import stage as stages
from scaling.stages import synthesize

EVALUATION_ROWS = 64  # at a time, whatever the batch; more where mesh and microbatches need it


def evaluation_rows(mesh, how) -> int:
  """Rows at a time of the held-out loss: EVALUATION_ROWS, or the next that divides into parts."""
  ways = mesh.shape['data'] * mesh.shape['fsdp'] * how.microbatches
  return -(-EVALUATION_ROWS // ways) * ways


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Trains from `start` to `stop`, and measures the held-out loss where the recipe asks for it."""
  recipe, how = stage.recipe, stages.mechanics(setting.how, stage.recipe, setting.mesh)
  cfg = stages.model(recipe)
  folder, _ = stages.load_data(setting.workdir, recipe)
  begun = stages.begin(setting, stage)
  learn = learning(setting, stage, folder) if int(begun[0].step) < recipe['stop'] else None
  watched = 'loss', 'grad_norm', 'learning_rate'
  state, ledger, seconds = stages.train(setting, stage, begun, learn, recipe['stop'], watched)

  cell, path = stages.path_of(setting, stage)
  path[stage.kind] = compute.add(path[stage.kind], ledger)
  meta = {'ledger': ledger, 'seconds': seconds()}
  seen, distinct, pool = tokens_seen(folder, recipe)
  if stage.kind == 'pretrain':
    cell = records.cell_of_model(recipe, cfg) | cell
    cell['pretrain_tokens'] += seen
  else:
    cell |= {
      'sft_tokens': seen, 'sft_unique_tokens': distinct, 'sft_pool_tokens': pool,
      'trunk': recipe['trunk'],
    }  # fmt: skip
    if 'synthetic' in recipe:
      cell = made_cell(setting, stage, folder, cell)
      for kind, spent in synthesize.charged(setting, stage).items():
        path[kind] = compute.add(path[kind], spent)
  cell['seconds'] += meta['seconds']
  if recipe['measure']:
    loss, stderr, count = held_out_loss(setting, cfg, state.params, folder, how)
    row = records.row(
      stage, cell, path, setting.environment,
      metric='loss', value=loss, stderr=stderr, problems=count,
    )  # fmt: skip
    records.write(setting.workdir, stage.id, [row])
  stages.finish(setting, stage, cell, path, meta)


def learning(setting: stages.Setting, stage: stages.Stage, folder) -> Callable:
  """What `stages.train` calls for each step: a batch of the recipe's rows, at its rate."""
  recipe, mesh = stage.recipe, setting.mesh
  cfg, how = stages.model(recipe), stages.mechanics(setting.how, recipe, mesh)
  source, B, T = rows_of(setting, recipe, folder), recipe['rows'], recipe['data']['row_tokens']
  sharding.check_rows(mesh, B, f'config.{stage.kind}.rows')
  here, where = sharding.rows_here(mesh, B), sharding.batch(mesh)
  opt = stages.optimizer(recipe)
  train = train_step.make_train_step(cfg, losses.cross_entropy, None, opt, mesh, how)

  def learn(state, step: int):
    picked = source.picked(step)
    tokens, context, counted = (int(n) for n in source.tally[picked].sum(axis=0))
    rows = source.read(picked[here])
    # losses.mean_over_tokens, of the rows that are here
    rows['weights'] = rows.pop('loss_mask') / np.float32(counted)
    rate = train_step.learning_rate(
      step, recipe['learning_rate'], recipe['warmup'], recipe['end'], recipe['decay']
    )
    state, metrics = train(state, sharding.feed(where, B, rows), rate, 1.0)
    spent = compute.train(cfg, tokens, context, B, T, how.remat, how.loss_chunk)
    return state, {'learning_rate': rate, 'tokens': tokens, **metrics}, spent

  return learn


class Rows(NamedTuple):
  """Where batches come from: the rows of a pool, or those of two, numbered through."""

  tally: np.ndarray  # int64 [R, 3]: as of batches.tally
  picked: Callable[[int], np.ndarray]  # step -> the numbers int64 [B] of its rows
  read: Callable[[np.ndarray], dict]  # numbers -> arrays of them


def rows_of(setting: stages.Setting, recipe: dict, folder) -> Rows:
  """The Rows of a recipe."""
  packed, tally = batches.packed(folder, recipe['pool']), batches.tally(folder, recipe['pool'])
  drawn, seed, B = rows_drawn(tally, recipe), recipe['seed'], recipe['rows']
  if recipe.get('synthetic') is None:
    picked = lambda step: drawn[batches.picked(len(drawn), seed, step, B)]
    return Rows(tally, picked, lambda chosen: batches.read(packed, chosen))
  made = stages.folder(setting.workdir, recipe['synthetic'])
  both = packed, batches.packed(made, 'rows')
  tallies = tally, batches.tally(made, 'rows')
  numbers = np.concatenate([drawn, len(tally) + np.arange(len(tallies[1]))])
  sizes = len(drawn), len(tallies[1])
  return Rows(
    np.concatenate(tallies),
    lambda step: numbers[mixing.numbers(sizes, seed, step, B, recipe['mix'])],
    lambda chosen: mixing.read(both, chosen),
  )


def made_cell(setting: stages.Setting, stage: stages.Stage, folder, cell: dict) -> dict:
  """The cell of a stage that learns from examples of a model, or is the control of those that do.

  Tokens of a parent that it goes on from are counted; distinct ones of the SFT pool once.
  """
  recipe = stage.recipe
  before = stages.path_of(setting, stage)[0]
  of_pool = mixing.taken(recipe['stop'], recipe['rows'], recipe['mix'])
  mine = _seen(batches.tally(folder, 'sft')[:, 0], of_pool, recipe)
  others, about = (0, 0), {}
  if recipe['synthetic'] is not None:
    made = stages.folder(setting.workdir, recipe['synthetic'])
    rows = batches.tally(made, 'rows')[:, 0]
    others = _seen(rows, recipe['stop'] * recipe['rows'] - of_pool, {})
    about = stages.done(setting.workdir, recipe['synthetic'])['synthetic']
  of_models = others[0] if about.get('drawn') else 0  # solutions are nobody's samples
  return cell | {
    'sft_tokens': before.get('sft_tokens', 0) + mine[0] + others[0],
    'sft_unique_tokens': max(before.get('sft_unique_tokens', 0), mine[1]) + others[1],
    'synthetic': recipe['called'],
    'synthetic_round': recipe['round'],
    'synthetic_tokens': before.get('synthetic_tokens', 0) + of_models,
    'synthetic_examples': about.get('examples', 0),
    'synthetic_paths': about.get('paths', 0),
  }


def rows_drawn(tally: np.ndarray, recipe: dict) -> np.ndarray:
  """The numbers int64 [U] of the pool's rows that batches are drawn from: all, or recipe['unique'].

  BadInput where the pool has fewer.
  """
  total, unique = len(tally), recipe.get('unique')
  if unique is None:
    return np.arange(total)
  if unique > total:
    width = recipe['data']['row_tokens']
    raise BadInput(
      f'config.sft.unique_tokens has {unique * width:,}, {unique:,} rows of {width}, and the SFT '
      f'pool has {total:,} rows: set it to at most {total * width:,}, or raise '
      'config.data.sft_problems'
    )
  return batches.subset(total, unique)


def tokens_seen(folder, recipe) -> tuple[int, int, int]:
  """Real tokens that a branch has seen at its last step, by the mean row: all, and distinct ones;
  and those of the rows that it draws from."""
  if recipe['stop'] == 0:
    return 0, 0, 0
  lengths = batches.tally(folder, recipe['pool'])
  seen, distinct = _seen(lengths[:, 0], recipe['stop'] * recipe['rows'], recipe)
  return seen, distinct, int(lengths[rows_drawn(lengths, recipe), 0].sum())


def _seen(lengths: np.ndarray, rows: int, recipe: dict) -> tuple[int, int]:
  """Real tokens of so many rows of these lengths [R], by the mean row: all, and distinct ones."""
  drawn = rows_drawn(lengths, recipe)
  pool = int(lengths[drawn].sum())
  seen = rows * pool / len(drawn)
  return round(seen), round(min(seen, pool))


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
