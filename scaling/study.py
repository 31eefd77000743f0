"""A study: its config expanded into a tree of stages, estimated, run, and resumed.

    config -> expand -> [Stage, …] -> launch -> records, banks, checkpoints in the workdir

A stage is named by a hash of its parent and its recipe, so one that is done is not run again, and
two studies in one workdir share what they have in common. What a stage's result does not depend on
(mesh, microbatches, checkpoint interval) is not part of its recipe. Nor is the code: after a change
that alters results, use a new workdir; every record says its git commit.
"""

import contextlib
import dataclasses
import fcntl
import math
import os
import shlex
import sys
from pathlib import Path

from ml_collections import ConfigDict

from scaling import config as configs
from scaling import files, plan, records, sharding, train_step
from scaling.data import batches, pools, tasks
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.launch import local
from scaling.model import presets
from scaling.stages import stage as stages
from scaling.stages import supervised
from scaling.stages.stage import Stage

FORMAT = 1  # of a workdir


def data_spec(c: ConfigDict) -> batches.DataSpec:
  """The data of a study."""
  return batches.DataSpec(
    task=c.data.task,
    pretrain_tasks=tuple(c.pretrain.tasks),
    style=c.data.style,
    vocab=c.data.vocab,
    row_tokens=c.data.row_tokens,
    seed=c.data.seed,
    sft=c.data.sft_problems,
    rl=c.data.rl_problems,
    validation=c.data.validation_problems,
    test=c.data.test_problems,
    pretrain=c.pretrain.examples if c.pretrain.tasks else 0,
    long_examples=c.data.long_examples,
  )


def _steps(tokens: float, rows: int, row_tokens: int) -> int:
  return max(1, round(tokens / (rows * row_tokens)))


def expand(c: ConfigDict) -> list[Stage]:
  """All stages of a study, parents before children. BadInput for a config that cannot run."""
  configs.validate(c)
  pools.check_spec(data_spec(c))
  data = data_spec(c)._asdict()
  tree = {}

  def add(kind, parent, label, **recipe) -> str:
    stage = stages.make(kind, parent, label, recipe)
    tree.setdefault(stage.id, stage)
    return stage.id

  for seed in c.seeds:
    for size in c.model.sizes:
      _branches_of(c, seed, size, data, add)
  return list(tree.values())


def _branches_of(c: ConfigDict, seed: int, size: str, data: dict, add) -> None:
  """Adds the stages of one model at one seed."""
  options = {k: v for k, v in c.model.items() if k != 'sizes'}
  model = presets.model_config(size, VOCABS[c.data.vocab].size, **options)
  width_rule = (64 / model.d_model) ** c.optimizer.width_exponent
  common = dict(
    seed=seed,
    preset=size,
    model=dataclasses.asdict(model),
    data=data,
    optimizer={k: v for k, v in c.optimizer.items() if k != 'width_exponent'},
  )
  name = f'{size} seed {seed}'

  def sample(parent: str, label: str) -> None:
    add(
      'sample', parent, f'{label}: bank of {c.data.test_problems} x {c.sample.n}', **common,
      problems=c.data.test_problems, **c.sample,
    )  # fmt: skip

  def supervised(kind, parent, label, part, **where) -> str:
    return add(
      kind, parent, label, **common, **where, rows=part.rows, warmup=part.warmup_steps,
      learning_rate=part.learning_rate * width_rule,
    )  # fmt: skip

  end = _steps(c.pretrain.tokens, c.pretrain.rows, c.data.row_tokens) if c.pretrain.tokens else 0
  base = supervised(
    'pretrain', None, f'{name}: pretrain {end} steps', c.pretrain, pool='pretrain', start=0,
    stop=end, end=end, decay=math.ceil(c.pretrain.decay * end), measure=False,
  )  # fmt: skip
  ends = {t: _steps(t, c.sft.rows, c.data.row_tokens) for t in sorted(c.sft.tokens)}
  trunk, at, root = base, 0, ''
  for tokens, end in ends.items():
    decay = math.ceil(c.sft.decay * end)
    start = end - decay
    if start > at:  # the trunk goes on to where this branch leaves it
      trunk = supervised(
        'sft', trunk, f'{name}: sft trunk to step {start}', c.sft, pool='sft', start=at, stop=start,
        end=None, decay=0, measure=False, trunk=root,
      )  # fmt: skip
      at, root = start, root or trunk
    branch = supervised(
      'sft', trunk, f'{name}: sft {tokens:,.0f} tokens', c.sft, pool='sft', start=at, stop=end,
      end=end, decay=end - at, measure=True, trunk=root,
    )  # fmt: skip
    sample(branch, f'{name}: sft {tokens:,.0f}')
    if size in c.rl.sizes and tokens in c.rl.sft_tokens:
      parent, done = branch, 0
      for updates in sorted(c.rl.updates):
        recipe = {k: v for k, v in c.rl.items() if k not in ('updates', 'sizes', 'sft_tokens')}
        recipe['learning_rate'] = c.rl.learning_rate * width_rule
        label = f'{name}: sft {tokens:,.0f}, rl {updates} updates'
        parent = add(
          'rl', parent, label, **common, start=done, stop=updates, reference=branch, **recipe
        )
        sample(parent, label)
        done = updates


def open_workdir(workdir: Path) -> Path:
  """Makes the workdir, or checks it is one of this version. BadInput where it cannot be used."""
  workdir = Path(workdir)
  version = workdir / 'version.json'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if not version.exists():
      if any(path for path in workdir.iterdir() if not path.name.endswith(files.PARTIAL)):
        raise BadInput(
          f'--workdir={workdir}: the folder is not empty and not a Postscale workdir; name another'
        )
      files.write_json(version, {'format': FORMAT})
    found = files.read_json(version).get('format')
  except OSError as error:
    raise BadInput(f'--workdir={workdir}: cannot be written ({error.strerror})') from error
  if found != FORMAT:
    raise BadInput(
      f'--workdir={workdir}: format {found}, and this version of Postscale reads {FORMAT}; '
      'use the version that wrote it, or name another folder'
    )
  if not os.access(workdir, os.W_OK):
    raise BadInput(f'--workdir={workdir}: cannot be written (permission denied)')
  return workdir


def check_mesh(c: ConfigDict, tree: list[Stage], mesh) -> None:
  """BadInput where rows or parameters of any stage do not split over the mesh."""
  for key in ('pretrain.rows', 'sft.rows', 'rl.prompts', 'sample.block_prompts'):
    section, field = key.split('.')
    sharding.check_rows(mesh, c[section][field], f'config.{key}')
  sharding.check_rows(mesh, c.sft.rows // c.sft.microbatches, 'config.sft.rows / microbatches')
  rows = c.rl.prompts * c.rl.group // c.rl.minibatches
  sharding.check_rows(mesh, rows, 'config.rl.prompts x group / minibatches')
  sharding.check_rows(mesh, supervised.EVALUATION_ROWS, 'rows of the held-out loss')
  for recipe in {s.recipe['preset']: s.recipe for s in tree}.values():
    train_step.layout(stages.model(recipe), stages.optimizer(recipe), mesh)


@contextlib.contextmanager
def lock(workdir: Path):
  """Holds the workdir for this process. BadInput where another process has it."""
  with open(workdir / '.lock', 'w') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise BadInput(
        f'--workdir={workdir}: another run is using it; wait for it, or name another folder'
      ) from error
    yield


def run(c: ConfigDict, workdir: Path) -> Path:
  """Runs what is not done of a study and returns the workdir. Cut off, it goes on when run again.

  BadInput for a config or a workdir that cannot be used, before anything is trained.
  """
  tree = expand(c)
  mesh = sharding.make_mesh(**c.mesh)
  check_mesh(c, tree, mesh)
  workdir = open_workdir(workdir)
  with lock(workdir):
    environment = records.environment(mesh)
    _describe(c, workdir, tree, environment)
    data = data_spec(c)
    folder = stages.data_folder(workdir, data._asdict())
    folder.parent.mkdir(exist_ok=True)
    tasks.prepare(data, folder, lambda line: print(line, flush=True))
    _note_lengths(c, batches.load(folder))
    setting = stages.Setting(
      workdir, mesh, c.sft.microbatches, c.checkpoint_seconds, environment, lambda part, words: None
    )
    todo = [stage for stage in tree if stages.done(workdir, stage.id) is None]
    local.launch(setting, tree, plan.seconds(todo, plan.matmul_peak()))
  return workdir


def _describe(c: ConfigDict, workdir: Path, tree: list[Stage], environment: dict) -> None:
  """Writes studies/NAME.json: the newest config of that name."""
  (workdir / 'studies').mkdir(exist_ok=True)
  path = workdir / 'studies' / f'{c.name}.json'
  planned, independent = plan.sharing(tree)
  files.write_json(
    path,
    {
      'name': c.name,
      'config': c.to_dict(),
      'command': shlex.join(['python', *sys.argv]),
      'stages': [stage._asdict() | {'seed': stage.recipe['seed']} for stage in tree],
      'shared': {'flops_planned': planned, 'flops_independent': independent},
      'environment': environment,
    },
  )


def _note_lengths(c: ConfigDict, data: batches.Data) -> None:
  """Says so where the longest gold response is longer than what may be sampled."""
  for key in ('rl', 'sample') if c.rl.updates else ('sample',):
    if c[key].response_tokens < data.max_response_tokens:
      print(
        f'note: config.{key}.response_tokens is {c[key].response_tokens}, the longest gold '
        f'response {data.max_response_tokens} tokens: what is cut off counts as wrong',
        flush=True,
      )
