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
import itertools
import math
import os
import shlex
import socket
import sys
import time
from pathlib import Path
from typing import NamedTuple

import jax
from ml_collections import ConfigDict

from scaling import (
  checks,
  files,
  plan,
  processes,
  records,
  rounds,
  self_training,
  sharding,
  train_step,
)
from scaling.data import batches, pools, preferences, tasks
from scaling.data import vocab as vocabs
from scaling.errors import BadInput
from scaling.launch import local
from scaling.model import presets, transformer
from scaling.model.transformer import Mechanics
from scaling.stages import hosted, origin, rl, search, supervised
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


def _recorded(data: batches.DataSpec) -> dict:
  """What recipes say of the data. `corrected` came after many a workdir, and is left out where it
  is 0: their stages keep their names."""
  return {k: v for k, v in data._asdict().items() if k != 'corrected' or v}


def _steps(tokens: float, rows: int, row_tokens: int) -> int:
  return max(1, round(tokens / (rows * row_tokens)))


def expand(c: ConfigDict) -> list[Stage]:
  """All stages of a study, parents before children. BadInput for a config that cannot run."""
  checks.validate(c)
  pools.check_spec(data_spec(c))
  rounds.check(c)
  self_training.check(c)
  data = _recorded(data_spec(c))
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
      ends = {size: _branches_of(c, seed, size, pretrained, data, add) for size in c.model.sizes}
      scorers = _test_time(c, seed, ends, add)
      _reinforced(c, ends, scorers, add)
      rounds.expand(c, ends, scorers, _sampled, add)
      self_training.expand(c, ends, scorers, _sampled, add)
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


def model_of(c: ConfigDict, size: str) -> tuple[dict, transformer.ModelConfig]:
  """(what the recipe of the first stage says of the model's origin, its config) of a size."""
  options = {k: v for k, v in c.model.items() if k != 'sizes'}
  vocab_size = vocabs.check(c.data.vocab, c.data.style == 'chat')
  if not c.init_from:
    return {}, presets.model_config(size, vocab_size, **options)
  tokens = c.init_tokens[c.model.sizes.index(size)] if c.init_tokens else None
  begun, model = origin.find(c.init_from.replace('{size}', size), tokens, **options)
  if vocab_size > model.vocab_size:
    raise BadInput(
      f'config.data.vocab={c.data.vocab} has {vocab_size:,} ids and the model in '
      f'{begun["folder"]} {model.vocab_size:,}: use the tokenizer of that model'
    )
  if model.mup_base and c.optimizer.width_exponent:
    raise BadInput(
      f'config.init_from: the model in {begun["folder"]} has muP, which scales rates by itself: '
      'set config.optimizer.width_exponent=0 with it'
    )
  return {'origin': begun}, model


class End(NamedTuple):
  """The SFT branch of the largest budget of one size, and of its largest budget of unique tokens:
  where test-time compute begins."""

  common: dict  # of its recipe
  name: str
  base: str  # the stage that SFT began from
  branch: str
  bank: str  # its rollout bank on the test problems
  width_rule: float
  branches: dict  # SFT tokens -> the branch of that budget


def _sampled(c: ConfigDict, pool: str, problems: int, n: int, measure: bool) -> dict:
  """What the recipe of a bank has beside its model."""
  drawn = dict(c.sample, pool=pool, problems=problems, n=n, measure=measure)
  samples = min(c.sample.block_samples, n)
  rows = min(c.sample.block_rows or samples, samples)
  return drawn | {'stop': list(c.sample.stop), 'block_samples': samples, 'block_rows': rows}


def _test_time(c: ConfigDict, seed: int, ends: dict[str, End], add) -> dict:
  """Adds the reward models of one seed, what they score, and the searches.

  Returns (policy, 'OBJECTIVE SIZE') -> (stage, recipe, stage that scores) of the reward models.
  """
  scorers = {}
  for policy in c.scorers.policies if c.scorers.objectives else ():
    end = ends[policy]
    bank = labels = None
    samples = c.data.reward_problems * c.scorers.n
    if c.scorers.pairs:
      samples = 2 * len(preferences.read_jsonl(c.scorers.pairs).pairs)
    else:
      drawn = _sampled(c, 'reward', c.data.reward_problems, c.scorers.n, False)
      bank = add('sample', end.branch, f'{end.name}: bank for reward models', **end.common, **drawn)
    if 'process' in c.scorers.objectives:
      labels = add(
        'rollouts', end.branch, f'{end.name}: roll-outs from steps', **end.common, bank=bank,
        per_problem=c.scorers.per_problem, n=c.scorers.rollouts, temperature=c.sample.temperature,
        response_tokens=c.sample.response_tokens, block_prompts=c.sample.block_prompts,
        block_samples=c.scorers.rollouts, block_rows=c.scorers.rollouts,
      )  # fmt: skip
    for size in c.scorers.sizes:
      scorer = ends[size]
      rewarding = scorer.common | {'model': scorer.common['model'] | {'head': 'scalar'}}
      for objective in c.scorers.objectives:
        label = f'{objective} reward model {size} of {end.name}'
        recipe = rewarding | dict(
          objective=objective, bank=bank, labels=labels if objective == 'process' else None,
          rows=c.scorers.rows, epochs=c.scorers.epochs,
          learning_rate=c.scorers.learning_rate * scorer.width_rule,
          warmup=c.scorers.warmup_steps, held_out=c.scorers.held_out,
          samples=c.data.reward_problems * c.scorers.per_problem
          if objective == 'process' else samples,
        )  # fmt: skip
        if c.scorers.pairs:
          recipe['pairs'] = rounds.file(c.scorers.pairs)
        trained = add('preference', scorer.branch, label, **recipe)
        scored = add(
          'score', end.bank, f'{end.name}: scored by {objective} {size}', **end.common,
          scorer=trained, block_rows=c.scorers.rows, samples=c.data.test_problems * c.sample.n,
        )  # fmt: skip
        scorers[policy, f'{objective} {size}'] = trained, recipe, scored
  for policy in c.search.policies:
    end = ends[policy]
    _searched(c, policy, end.common, end.branch, end.name, scorers, add)
  return scorers


def _searched(c: ConfigDict, size: str, common: dict, of: str, name: str, scorers, add) -> None:
  """Adds the searches of the model that stage `of` leaves."""
  for text in c.search.strategies:
    strategy, options = checks.call(text)
    recipe = common | dict(
      strategy=strategy,
      options=options,
      budgets=sorted(c.search.budgets),
      runs=c.search.runs,
      scorer=scorers.get((size, c.search.scorer), (None,))[0],
      temperature=c.search.temperature,
      response_tokens=c.search.response_tokens,
      problems=c.data.test_problems,
    )
    search.check(recipe)
    add('search', of, f'{name}: {text}', **recipe)


def _reinforced(c: ConfigDict, ends: dict[str, End], scorers: dict, add) -> None:
  """Adds the RL runs of one seed, each cut where it is measured."""
  for called, one in checks.rl_runs(c):
    how, word = checks.algorithm(one)._asdict(), one.rl.reward.split()[0]
    for size, tokens in itertools.product(c.rl.sizes, c.rl.sft_tokens):
      end = ends[size]
      scorer = scorers.get((size, one.rl.reward), (None, None, None))
      left_out = checks.OF_STUDY + checks.OF_TURNS * (one.rl.turns == 1)
      recipe = {k: v for k, v in one.rl.items() if k not in left_out} | how
      recipe |= dict(
        called=called,
        reference=end.branches[tokens],
        learning_rate=one.rl.learning_rate * end.width_rule,
        critic_learning_rate=one.rl.critic_learning_rate * end.width_rule,
        scorer=scorer[0],
        scored=scorer[2] or (end.bank if word == 'judge' else None),
        grader=ends[one.rl.reward.split()[1]].branch if word == 'judge' else None,
        teaching=ends[one.rl.teacher].branch if one.rl.teacher in ends else None,
        judge_by=c.dpo.judge_by,
        judge_tokens=c.dpo.judge_tokens,
      )
      parent, done = end.branches[tokens], 0
      for updates in sorted(c.rl.updates):
        name = f'{end.name}: sft {tokens:,.0f}, {called} {updates} updates'
        parent = add('rl', parent, name, **end.common, start=done, stop=updates, **recipe)
        drawn = _sampled(c, 'test', c.data.test_problems, c.sample.n, True)
        label = f'{name}: bank of {c.data.test_problems} x {c.sample.n}'
        add('sample', parent, label, **end.common, **drawn)
        if c.search.after_rl and size in c.search.policies:
          _searched(c, size, end.common, parent, name, scorers, add)
        done = updates


def _branches_of(c: ConfigDict, seed: int, size: str, pretrained: float, data: dict, add) -> End:
  """Adds the stages of one model, pretrained on so many tokens, at one seed."""
  begun, model = model_of(c, size)
  tuned = dataclasses.replace(model, lora_rank=c.lora.rank, lora_alpha=float(c.lora.alpha))
  width_rule = (64 / model.d_model) ** c.optimizer.width_exponent
  common = dict(
    seed=seed,
    preset=size,
    model=dataclasses.asdict(tuned),
    data=data,
    optimizer={k: v for k, v in c.optimizer.items() if k != 'width_exponent'},
  )
  name = f'{size} seed {seed}'
  if len(c.pretrain.tokens) > 1:
    name += f', {pretrained:,.0f} pretrained'

  def sample(parent: str, label: str) -> str:
    drawn = _sampled(c, 'test', c.data.test_problems, c.sample.n, True)
    label = f'{label}: bank of {c.data.test_problems} x {c.sample.n}'
    return add('sample', parent, label, **common, **drawn)

  def train(kind, parent, label, part, **where) -> str:
    recipe = common | where
    return add(
      kind, parent, label, **recipe, rows=part.rows, warmup=part.warmup_steps,
      learning_rate=part.learning_rate * width_rule,
    )  # fmt: skip

  end = _steps(pretrained, c.pretrain.rows, c.data.row_tokens) if pretrained else 0
  base = train(
    'pretrain', None, f'{name}: pretrain {end} steps', c.pretrain, pool='pretrain', start=0,
    stop=end, end=end, decay=math.ceil(c.pretrain.decay * end), measure=False,
    model=dataclasses.asdict(model), **begun,
  )  # fmt: skip
  ends = {t: _steps(t, c.sft.rows, c.data.row_tokens) for t in sorted(c.sft.tokens)}
  for unique in sorted(c.sft.unique_tokens) or (None,):  # the last, the largest, is the End
    part, of = {'pool': 'sft'}, ''
    if unique is not None:
      part['unique'] = round(unique / c.data.row_tokens)
      of = f' of {unique:,.0f} unique'
    trunk, at, root, branches = base, 0, '', {}
    for tokens, end in ends.items():
      decay = math.ceil(c.sft.decay * end)
      start = end - decay
      if start > at:  # the trunk goes on to where this branch leaves it
        trunk = train(
          'sft', trunk, f'{name}: sft trunk{of} to step {start}', c.sft, **part, start=at,
          stop=start, end=None, decay=0, measure=False, trunk=root,
        )  # fmt: skip
        at, root = start, root or trunk
      branch = train(
        'sft', trunk, f'{name}: sft {tokens:,.0f} tokens{of}', c.sft, **part, start=at, stop=end,
        end=end, decay=end - at, measure=True, trunk=root,
      )  # fmt: skip
      end_of_sft = branch, sample(branch, f'{name}: sft {tokens:,.0f}{of}')
      branches[tokens] = branch
  return End(common, name, base, *end_of_sft, width_rule, branches)


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
  if processes.count() > 1 and mesh.size != jax.device_count():
    raise BadInput(
      f'config.mesh has {mesh.size} devices, and the {processes.count()} processes have '
      f'{jax.device_count()}: a run of several processes uses all of them'
    )
  if c.hosted.model:
    return
  for _, one in checks.rl_runs(c):
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
  """Holds the workdir for this run. BadInput where another has it, or not all processes see it."""
  path = workdir / '.lock'

  def take() -> str:
    file = stack.enter_context(open(path, 'a+'))
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      raise BadInput(
        f'--workdir={workdir}: another run is using it; wait for it, or name another folder'
      ) from error
    holder = f'{socket.gethostname()} {os.getpid()} {time.time_ns()}'
    file.truncate(0)
    file.write(holder)
    file.flush()
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
  config or a workdir that cannot be used, before anything is trained.
  """
  tree = expand(c)
  for stage in tree:
    if stage.kind == 'hosted':
      hosted.ready(stage.recipe)
  mesh = sharding.make_mesh(**c.mesh)
  check_mesh(c, tree, mesh)
  processes.agree(c.to_dict(), 'not the same config; give all processes the same command')
  workdir = Path(workdir)
  processes.once(lambda: str(open_workdir(workdir)))
  with lock(workdir):
    environment = records.environment(mesh)
    _describe(c, workdir, tree, environment)
    data = data_spec(c)
    folder = stages.data_folder(workdir, _recorded(data))

    def prepare() -> None:
      folder.parent.mkdir(exist_ok=True)
      tasks.prepare(data, folder, lambda line: print(line, flush=True))
      if not c.hosted.model:
        _note_lengths(c, batches.load(folder))
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


def _note_lengths(c: ConfigDict, data: batches.Data) -> None:
  """Says so where the longest gold response is longer than what may be sampled."""
  lengths = [('rl', one.rl.response_tokens) for _, one in checks.rl_runs(c)]
  for key, longest in dict.fromkeys([*lengths, ('sample', c.sample.response_tokens)]):
    if longest < data.max_response_tokens:
      print(
        f'note: config.{key}.response_tokens is {longest}, the longest gold '
        f'response {data.max_response_tokens} tokens: what is cut off counts as wrong',
        flush=True,
      )
