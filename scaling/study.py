"""A study: its config expanded into a tree of stages, estimated, run, and resumed.

    config -> expand -> [Stage, …] -> launch -> records, banks, checkpoints in the workdir

A stage is named by a hash of its parent and its recipe, so one that is done is not run again, and
two studies in one workdir share what they have in common. What a stage's result does not depend on
(mesh, microbatches, checkpoint interval) is not part of its recipe. Nor is the code: after a change
that alters results, use a new workdir; every record says its git commit.
"""

import contextlib
import fcntl
import json
import math
import os
import shlex
import socket
import sys
import time
from pathlib import Path

import jax
from ml_collections import ConfigDict

from scaling import (
  branches,
  checks,
  files,
  plan,
  processes,
  records,
  reinforcement,
  rounds,
  self_training,
  sharding,
  test_time,
  train_step,
)
from scaling.data import batches, pools, tasks
from scaling.errors import BadInput
from scaling.launch import local
from scaling.model.transformer import Mechanics
from scaling.stages import hosted, rl, supervised
from scaling.stages import stage as stages
from scaling.stages.stage import Stage

FORMAT = 1  # of a workdir


def data_spec(c: ConfigDict) -> batches.DataSpec:
  """The data of a study."""
  if c.hosted.model:  # no tokens of ours, and no problem that is not asked
    return batches.DataSpec(
      task=c.data.task, pretrain_tasks=(), style=c.data.style, vocab='bytes', row_tokens=65_535,
      seed=c.data.seed, sft=0, rl=0, validation=0, test=c.data.test_problems, pretrain=0,
    )  # fmt: skip
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
    reward=c.data.reward_problems,
    attempts=float(c.data.attempts),
    reversed=float(c.data.reversed),
    corrected=float(c.data.corrected),
    pretrain=c.pretrain.examples if c.pretrain.tasks else 0,
    long_examples=c.data.long_examples,
    loss_on=c.sft.loss_on,
    sft_tasks=tuple(c.data.sft_tasks),
    sft_rates=tuple(map(float, c.data.sft_rates)),
    pretrain_rates=tuple(map(float, c.pretrain.rates)),
    pretrain_temperature=float(c.pretrain.temperature),
    near_duplicates=float(c.data.near_duplicates),
    contamination=c.data.contamination,
    ngram=c.data.ngram,
  )


def expand(c: ConfigDict) -> list[Stage]:
  """All stages of a study, parents before children. BadInput for a config that cannot run."""
  checks.validate(c)
  pools.check_spec(data_spec(c))
  data = data_spec(c)._asdict()
  tree = {}

  def add(kind, parent, label, **recipe) -> str:
    stage = stages.make(kind, parent, label, recipe)
    tree.setdefault(stage.id, stage)
    return stage.id

  for seed in c.seeds:
    if c.hosted.model:
      _hosted(c, seed, data, add)
      continue
    for pretrained in sorted(c.pretrain.tokens) or (0,):
      ends = {size: branches.expand(c, seed, size, pretrained, data, add) for size in c.model.sizes}
      scorers = test_time.expand(c, ends, add)
      reinforcement.expand(c, ends, scorers, add)
      rounds.expand(c, ends, scorers, add)
      self_training.expand(c, ends, scorers, add)
  return list(tree.values())


HOW_CALLED = ('concurrency', 'timeout', 'retries', 'cap_tokens', 'cap_money')


def _hosted(c: ConfigDict, seed: int, data: dict, add) -> None:
  """Adds the one stage of a model behind an API at one seed, which names a draw of its own."""
  of = {k: v for k, v in c.hosted.items() if k not in HOW_CALLED}
  add(
    'hosted', None, f'{c.hosted.model}: bank of {c.data.test_problems} x {c.hosted.n}', seed=seed,
    data=data, problems=c.data.test_problems, **of,
    judge=c.judge.to_dict() if c.judge.model else None,
  )  # fmt: skip


def check_workdir(workdir: Path) -> None:
  """BadInput where there is something in the workdir's place that a run could not use: a file, a
  folder of other files, a workdir of another version. Writes nothing."""
  version = workdir / 'version.json'
  try:
    there = [name for name in os.listdir(workdir) if not name.endswith(files.PARTIAL)]
    found = version.read_text() if version.name in there else None
  except FileNotFoundError:
    return  # a run makes it
  except OSError as error:
    raise BadInput(f'--workdir={workdir}: cannot be read ({error.strerror})') from error
  if found is None:
    if there:
      raise BadInput(
        f'--workdir={workdir}: the folder is not empty and not a Postscale workdir; name another'
      )
    return
  written = json.dumps({'format': FORMAT})
  try:
    found = json.loads(found)['format']
  except (ValueError, TypeError, KeyError) as error:
    raise BadInput(
      f'{version}: it must say which format the workdir has; write {written} into it where this '
      'version of Postscale made the folder, or name another folder'
    ) from error
  if found != FORMAT:
    raise BadInput(
      f'--workdir={workdir}: format {found}, and this version of Postscale reads {FORMAT}; '
      'use the version that wrote it, or name another folder'
    )


def open_workdir(workdir: Path) -> Path:
  """Makes the workdir, or checks it is one of this version. BadInput where it cannot be used."""
  workdir = Path(workdir)
  check_workdir(workdir)
  version = workdir / 'version.json'
  try:
    workdir.mkdir(parents=True, exist_ok=True)
    if not version.exists():
      files.write_json(version, {'format': FORMAT})
  except OSError as error:
    raise BadInput(f'--workdir={workdir}: cannot be written ({error.strerror})') from error
  if not os.access(workdir, os.W_OK):
    raise BadInput(f'--workdir={workdir}: cannot be written (permission denied)')
  return workdir


def check_here(c: ConfigDict, tree: list[Stage], workdir: str | None) -> None:
  """BadInput for what a run would refuse here, as far as it is clear before anything is made: the
  workdir, data that are not in it yet, and the mesh where there are devices for it."""
  data = data_spec(c)
  folder = None
  if workdir is not None:
    check_workdir(Path(workdir))
    folder = stages.data_folder(Path(workdir), data._asdict())
  if not folder or not (folder / 'data.json').is_file():
    tasks.check_first(data)
  axes = checks.axes(c, jax.device_count())
  if math.prod(axes.values()) <= jax.device_count():
    check_mesh(c, tree, sharding.make_mesh(**axes))


def check_mesh(c: ConfigDict, tree: list[Stage], mesh) -> None:
  """BadInput where rows or parameters of any stage do not split over the mesh."""
  have = jax.device_count()
  if processes.count() > 1 and mesh.size != have:
    idle = checks.idle(c, have)
    raise BadInput(
      f'config.mesh has {mesh.size} devices, and the {processes.count()} processes have {have}: a '
      f'run of several processes uses all of them{idle and f" ({idle})"}'
    )
  if c.hosted.model:
    return
  for _, one in reinforcement.runs(c):
    sharding.check_rows(mesh, one.rl.prompts, 'config.rl.prompts')
  sharding.check_rows(mesh, c.sample.block_prompts, 'config.sample.block_prompts')
  for name, rows in checks.batches_of(c):
    sharding.check_rows(mesh, rows // c.mechanics.microbatches, f'{name} / mechanics.microbatches')
  sharding.check_tokens(mesh, c.data.row_tokens, 'config.data.row_tokens')
  for stage in tree:
    if stage.kind == 'rl':
      rl.check(stage.recipe, stages.mechanics(Mechanics(**c.mechanics), stage.recipe, mesh), mesh)
  for recipe in {s.recipe['preset']: s.recipe for s in tree}.values():
    train_step.layout(stages.model(recipe), stages.optimizer(recipe), mesh)
    stages.mechanics(Mechanics(**c.mechanics), recipe, mesh)


@contextlib.contextmanager
def lock(workdir: Path):
  """Holds the workdir for this run, cleared of what was left half written. BadInput where another
  has it, or not all processes see it."""
  path = workdir / '.lock'

  def take() -> str:
    try:
      file = stack.enter_context(open(path, 'a+'))
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
      raise BadInput(
        f'--workdir={workdir}: another run is using it; wait for it, or name another folder'
      ) from error
    except OSError as error:
      raise BadInput(
        f'--workdir={workdir}: {path.name} cannot be opened and locked ({error.strerror}); name a '
        'folder of your own, on a file system that has flock'
      ) from error
    holder = f'{socket.gethostname()} {os.getpid()} {time.time_ns()}'
    file.truncate(0)
    file.write(holder)
    file.flush()
    files.sweep(workdir)
    return holder

  with contextlib.ExitStack() as stack:
    holder = processes.once(take)
    processes.agree(
      path.exists() and path.read_text() == holder,
      f'--workdir={workdir} is not the same folder for both; it must be on a file system that all '
      'hosts share',
    )
    yield


def run(c: ConfigDict, workdir: Path) -> Path:
  """Runs what is not done of a study and returns the workdir. Cut off, it goes on when run again.

  In a run of several processes all call this with the same config and the same workdir, which is on
  a file system that they share; process 0 prepares the data while the others wait. BadInput for a
  config or a workdir that cannot be used, before anything is trained; Refused at the end, where
  stages refused what others had left them.
  """
  tree = expand(c)
  for stage in tree:
    if stage.kind == 'hosted':
      hosted.ready(stage.recipe)
  mesh = sharding.make_mesh(**checks.axes(c, jax.device_count()))
  check_mesh(c, tree, mesh)
  processes.agree(c.to_dict(), 'not the same config; give all processes the same command')
  workdir = Path(workdir)
  processes.once(lambda: str(open_workdir(workdir)))
  if idle := checks.idle(c, jax.device_count()):
    print(idle, flush=True)
  with lock(workdir):
    environment = records.environment(mesh)
    _describe(c, workdir, tree, environment)
    data = data_spec(c)
    folder = stages.data_folder(workdir, data._asdict())

    def prepare() -> None:
      folder.parent.mkdir(exist_ok=True)
      tasks.prepare(data, folder, lambda line: print(line, flush=True))
      if not c.hosted.model:
        _note(c, batches.load(folder))
        for stage in tree:
          if 'unique' in stage.recipe:
            supervised.rows_drawn(batches.tally(folder, stage.recipe['pool']), stage.recipe)
          if stage.kind == 'rl':
            rl.check_room(stage.recipe, batches.load(folder))

    processes.once(prepare)
    setting = stages.Setting(
      workdir,
      mesh,
      Mechanics(**c.mechanics),
      c.checkpoint_seconds,
      environment,
      lambda part, words: None,
      {name: c.hosted[name] for name in HOW_CALLED},
    )
    done = processes.once(lambda: [s.id for s in tree if stages.done(workdir, s.id) is not None])
    todo = [stage for stage in tree if stage.id not in done]
    local.launch(setting, todo, plan.seconds(todo, plan.matmul_peak()))
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


def _note(c: ConfigDict, data: batches.Data) -> None:
  """Says so where test problems are unlike those to learn from, and where the longest gold response
  is longer than what may be sampled."""
  for pool, apart in data.unlike.items():
    print(
      f'note: {apart["test"]:.0%} of the test prompts have at most {apart["at_most"]} tokens, and '
      f'{apart["there"]:.0%} of those of the pool {pool}: what is learned there is of other '
      'problems than what is measured (a kind of few problems, which the first pools take?)',
      flush=True,
    )
  for key, longest in dict.fromkeys(checks.response_lengths(c)):
    if longest < data.max_response_tokens:
      print(
        f'note: config.{key} is {longest}, the longest gold response {data.max_response_tokens} '
        'tokens: what is cut off counts as wrong',
        flush=True,
      )
