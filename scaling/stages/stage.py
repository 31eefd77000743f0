"""What a stage is, where it keeps its files, and what all kinds of stages share."""

import contextlib
import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pandas as pd
from jax.sharding import Mesh

from scaling import checkpoint, compute, files, processes, train_step
from scaling.data import batches
from scaling.errors import BadInput
from scaling.model import attention, transformer
from scaling.model.transformer import Mechanics
from scaling.search import generate
from scaling.stages import origin
from scaling.truncation import Truncation


class Stage(NamedTuple):
  """A node of the study's tree. Its id is a hash of its parent's id and of its recipe."""

  id: str
  kind: str  # a key of launch.local.RUN
  parent: str | None
  label: str  # for people
  recipe: dict  # JSON: all that its result depends on, beside the parent


class Setting(NamedTuple):
  """What a stage runs in: the mechanics, none of which change its result beyond float tolerance."""

  workdir: Path
  mesh: Mesh
  how: Mechanics  # its attention may still be 'auto': see `mechanics`
  checkpoint_seconds: float
  environment: dict  # git commit, versions, device
  progress: Callable[[float, str], None]  # part done, in [0, 1], and a few words
  calls: dict | None = None  # how a hosted model is called: study.HOW_CALLED


class NonFinite(ArithmeticError):
  """A number that is not one: the stage stops, and what it saved before is kept.

  Its text says where; `ledger` is what had been spent.
  """

  def __init__(self, where: str, ledger: dict):
    super().__init__(where)
    self.ledger = ledger


# The random streams of a seed, never shared. All models of a seed are evaluated with the same noise
# on the same problems, so differences between cells are paired.
STREAMS = {
  'init': 0, 'rollouts': 1, 'evaluation': 2, 'adapters': 3, 'steps': 4, 'judge': 5, 'turns': 6,
  'prompts': 7, 'episodes': 8,
}  # fmt: skip


def make(kind: str, parent: str | None, label: str, recipe: dict) -> Stage:
  """A stage with its id."""
  text = json.dumps([kind, parent, recipe], sort_keys=True)
  return Stage(
    f'{kind}-{hashlib.sha256(text.encode()).hexdigest()[:10]}', kind, parent, label, recipe
  )


def inputs(stage: Stage) -> list[str]:
  """Ids of the stages whose results a stage reads: its parent, and those its recipe names."""
  keys = (
    'reference', 'bank', 'labels', 'scorer', 'scored', 'grader', 'teaching', 'synthetic', 'earlier',
    'prompts',
  )  # fmt: skip
  named = (stage.recipe.get(key) for key in keys)
  return [i for i in (stage.parent, *named) if isinstance(i, str)]  # RL's prompts are a number


def folder(workdir: Path, stage_id: str) -> Path:
  """Where a stage keeps all it makes."""
  return Path(workdir) / 'stages' / stage_id


def done(workdir: Path, stage_id: str) -> dict | None:
  """What a finished stage left for its children and its readers, or None if it has not finished."""
  path = folder(workdir, stage_id) / 'done.json'
  return json.loads(path.read_text()) if path.exists() else None


def data_folder(workdir: Path, data: dict) -> Path:
  """Where the data of a recipe are prepared: named by a hash of their specification."""
  text = json.dumps(data, sort_keys=True)
  return Path(workdir) / 'data' / hashlib.sha256(text.encode()).hexdigest()[:10]


def load_data(workdir: Path, recipe: dict) -> tuple[Path, batches.Data]:
  """The folder and the description of a recipe's prepared data."""
  path = data_folder(workdir, recipe['data'])
  return path, batches.load(path)


def problems(workdir: Path, recipe: dict) -> list[batches.Problem]:
  """The first recipe['problems'] of a recipe's pool, or of those that a stage `prompts` made."""
  if recipe.get('prompts') is None:
    return batches.problems(data_folder(workdir, recipe['data']), recipe['pool'])[
      : recipe['problems']
    ]
  table = pd.read_parquet(folder(workdir, recipe['prompts']) / 'problems.parquet')
  rows = table[list(batches.Problem._fields)].head(recipe['problems']).to_dict('records')
  return [batches.Problem(**row | {'entry': json.loads(row['entry'])}) for row in rows]


def model(recipe: dict) -> transformer.ModelConfig:
  """The model of a recipe."""
  return transformer.ModelConfig(**recipe['model'])


def mechanics(how: Mechanics, recipe: dict, mesh: Mesh) -> Mechanics:
  """The mechanics, with what is left to them resolved: the attention that the recipe's model gets
  on this mesh's devices, and the layers that are unrolled there.

  BadInput where the attention asked for cannot run there.
  """
  platform, cfg = mesh.devices.flat[0].platform, model(recipe)
  unroll = how.unroll or (cfg.n_layers if platform == 'cpu' else 1)
  return how._replace(attention=attention.resolve(how.attention, platform, cfg), unroll=unroll)


def optimizer(recipe: dict) -> train_step.OptimizerConfig:
  """The optimiser of a recipe."""
  return train_step.OptimizerConfig(**recipe['optimizer'])


def key(seed: int, stream: str) -> jax.Array:
  """The random key of one stream of a seed."""
  return jax.random.fold_in(jax.random.key(seed), STREAMS[stream])


def restore(workdir: Path, stage_id: str, recipe: dict, mesh: Mesh):
  """(TrainState, meta) of a stage's newest checkpoint, or None."""
  like = train_step.form(model(recipe), optimizer(recipe), mesh)
  return checkpoint.restore(folder(workdir, stage_id) / 'checkpoints', like)


def state_of(workdir: Path, stage_id: str, mesh: Mesh) -> train_step.TrainState:
  """The state that a finished stage of training left. BadInput where its checkpoint is gone."""
  recipe = files.read_json(folder(workdir, stage_id) / 'stage.json')['recipe']
  found = restore(workdir, stage_id, recipe, mesh)
  if found is None:
    raise BadInput(
      f'{folder(workdir, stage_id)}: the stage is marked as done and has no checkpoint; remove the '
      'folder to run it again'
    )
  return found[0]


def generator(
  setting: Setting, stage_id: str, recipe: dict, use: str, temperature: float, response_tokens: int
) -> generate.Generator:
  """What goes on from prefixes by the parameters that a finished stage left.

  recipe: of who asks, with the stage's model and data, and the fields of Truncation that are not at
  their defaults; its noise is of recipe['seed'] and the stream `use`.
  """
  drawn_from = {name: recipe[name] for name in Truncation._fields if name in recipe}
  return generate.make_generator(
    model(recipe),
    state_of(setting.workdir, stage_id, setting.mesh).params,
    load_data(setting.workdir, recipe)[1].vocab,
    setting.mesh,
    mechanics(setting.how, recipe, setting.mesh),
    key(recipe['seed'], use),
    temperature=temperature,
    response_tokens=response_tokens,
    row_tokens=recipe['data']['row_tokens'],
    truncation=Truncation(**drawn_from),
  )


@jax.jit
def _finite(params):
  return jnp.array([jnp.isfinite(x).all() for x in jax.tree.leaves(params)]).all()


def check_finite(params: dict, where: str, ledger: dict) -> None:
  """NonFinite where a parameter is not a finite number: what the last update of a stage may do."""
  if not _finite(params):
    raise NonFinite(f'{where}: the parameters after the update', ledger)


class Output(NamedTuple):
  """Where a stage of training writes while it runs."""

  stage: Stage
  folder: Path
  checkpoints: checkpoint.Manager
  board: Any  # a tensorboardX.SummaryWriter, of the process that writes; of the others None
  due: Callable[[], bool]  # asked once a step: is it time for a checkpoint?


@contextlib.contextmanager
def output(setting: Setting, stage: Stage, step: int):
  """The Output of a stage that goes on from `step`. At its end all that was saved is written."""
  where = folder(setting.workdir, stage.id)
  with contextlib.ExitStack() as stack:
    board = None
    if processes.first():
      import tensorboardX  # it imports torch where that is installed, which takes seconds

      board = tensorboardX.SummaryWriter(str(where / 'tensorboard'), purge_step=step)
      stack.callback(board.close)
    manager = stack.enter_context(checkpoint.Manager(where / 'checkpoints'))
    yield Output(stage, where, manager, board, _every(setting.checkpoint_seconds))


def _every(seconds: float) -> Callable[[], bool]:
  """A question for each step: have so many seconds gone by since it was last answered with yes?

  All processes get the answer of process 0's clock. It is not asked at every step, which would make
  them wait for each other, but where the pace so far says that it might be yes.
  """
  began, steps, ask = time.monotonic(), 0, 1

  def due() -> bool:
    nonlocal began, steps, ask
    steps += 1
    if steps < ask:
      return False
    passed = processes.once(lambda: time.monotonic() - began)
    if passed > seconds:
      began, steps, ask = time.monotonic(), 0, 1
      return True
    left = (seconds - passed) * steps / max(passed, 1e-9)  # steps
    ask = steps + max(1, int(min(left, steps)))
    return False

  return due


def measured(metrics: dict, ledger: dict) -> dict:
  """The row of a training curve, of plain numbers. NonFinite where its loss or gradient is not."""
  row = {name: float(value) for name, value in metrics.items()}
  row['step'] = int(row['step'])
  if not (math.isfinite(row['loss']) and math.isfinite(row['grad_norm'])):
    words = f'step {row["step"]}: loss {row["loss"]}, gradient norm {row["grad_norm"]}'
    raise NonFinite(words, ledger)
  return row


def scalars(out: Output, row: dict, names: tuple[str, ...]) -> None:
  """Puts a step's measurements on the board."""
  for name in names if out.board else ():
    out.board.add_scalar(f'{out.stage.kind}/{name}', row[name], row['step'])


def save(out: Output, state, meta: dict, curve: list[dict]) -> None:
  """A checkpoint, and first the training curve up to it: a resumed run cuts the curve back."""
  files.write_table(out.folder / 'metrics.parquet', pd.DataFrame(curve))
  meta = meta | {'curve_rows': len(curve)}
  checkpoint.save(out.checkpoints, int(state.step), state, meta)


def _read_curve(setting: Setting, stage: Stage, rows: int) -> list[dict]:
  """The training curve as it stood at the checkpoint; what was written after it is dropped."""
  table = pd.read_parquet(folder(setting.workdir, stage.id) / 'metrics.parquet')
  return table.head(rows).to_dict('records')


def stopwatch(meta: dict) -> Callable[[], float]:
  """Seconds spent on a stage: those before it was cut off, if it was, and those since this call."""
  began = time.monotonic()
  return lambda: meta['seconds'] + time.monotonic() - began


def begin(setting: Setting, stage: Stage):
  """(state, meta, curve) with which a stage of training goes on: its own checkpoint, or its parent.

  A parent of the same kind hands on its optimiser and step; from any other kind the stage takes the
  parameters alone. meta: {'ledger', 'seconds'} of the stage so far.
  """
  cfg, opt = model(stage.recipe), optimizer(stage.recipe)
  own = restore(setting.workdir, stage.id, stage.recipe, setting.mesh)
  if own is not None:
    state, meta = own
    return state, meta, _read_curve(setting, stage, meta['curve_rows'])
  meta = {'ledger': compute.empty(), 'seconds': 0.0}
  if stage.parent is None and 'origin' not in stage.recipe:
    init = train_step.make_init(cfg, opt, setting.mesh)
    return init(key(stage.recipe['seed'], 'init')), meta, []
  if stage.parent is None:
    params = origin.load(stage.recipe['origin'], cfg, setting.mesh)
  else:
    state = state_of(setting.workdir, stage.parent, setting.mesh)
    if stage.recipe.get('start', 0) > 0:
      return state, meta, []
    params = state.params
  fresh = key(stage.recipe['seed'], 'adapters')
  return train_step.make_restart(cfg, opt, setting.mesh)(params, fresh), meta, []


def train(
  setting: Setting, stage: Stage, begun: tuple, learn: Callable, stop: int, watched: tuple[str, ...]
):
  """(state, ledger, stopwatch) of a stage at step `stop`, with checkpoints on the way and there.

  begun: of `begin`. learn(state, step) -> (state, metrics, ledger) takes one step; its metrics, of
  which `watched` go on the board, are read while the next one runs. Told to stop, it saves and
  raises Preempted; NonFinite for a loss, a gradient or parameters that are not finite.
  """
  state, meta, curve = begun
  ledger, step, seconds = meta['ledger'], int(state.step), stopwatch(meta)
  first, pending = stage.recipe.get('start', 0), None

  def settle() -> None:
    row = measured(pending, ledger)
    curve.append(row)
    if row['step'] % 10 == 0:
      scalars(out, row, watched)

  with output(setting, stage, step) as out:
    while step < stop:
      state, metrics, spent = learn(state, step)
      ledger = compute.add(ledger, spent)
      if pending is not None:
        settle()
      pending = {'step': step, **metrics}
      step += 1
      setting.progress((step - first) / (stop - first), f'step {step}')
      told_to_stop = processes.preempted()
      if out.due() or told_to_stop or step == stop:
        settle()
        check_finite(state.params, f'step {step - 1}', ledger)
        pending = None
        save(out, state, {'ledger': ledger, 'seconds': seconds()}, curve)
      if told_to_stop:
        raise processes.Preempted
    if stop == 0 and 'curve_rows' not in meta:  # no steps: what it began with is the result
      save(out, state, {'ledger': ledger, 'seconds': seconds()}, curve)
  return state, ledger, seconds


def path_of(setting: Setting, stage: Stage) -> tuple[dict, dict]:
  """(cell, path) that the parent hands on: what was done so far, and its ledger by kind of stage.

  The path is what this cell would have cost had it been run alone; nothing is shared in it.
  """
  if stage.parent is None:
    path = {kind: compute.empty() for kind in ('pretrain', 'sft', 'rl')}
    if 'origin' not in stage.recipe:
      return {'pretrain_tokens': 0, 'pretrain_source': 'counted'}, path
    cell, path['pretrain'] = origin.past(stage.recipe['origin'], model(stage.recipe))
    return cell, path
  parent = done(setting.workdir, stage.parent)
  return parent['cell'], parent['path']


def finish(setting: Setting, stage: Stage, cell: dict, path: dict, meta: dict) -> None:
  """Marks a stage as finished. cell and path go to its children; meta: its ledger and seconds."""
  result = {'outcome': 'ok', 'cell': cell, 'path': path, **meta}
  files.write_json(folder(setting.workdir, stage.id) / 'done.json', result)
