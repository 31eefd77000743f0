"""Pods without pods: a study's programs compiled for a TPU topology, on a machine without a TPU.

    python run.py --config=experiments/pod.py:1b-64 --compile_for=v5p:4x4x4

libtpu compiles ahead of time for any topology it knows. Of each program of a study (the train step
of each kind of stage, the scoring pass, the sampler) this gives what the compiler says (memory),
what its HLO holds (collectives, traffic; see hlo.py), what the ledger counts (FLOPs), and a
roofline: of a device's three times, for arithmetic, main memory and the links to its neighbours, at
the published peaks, the longest. A bound, not a forecast: nothing overlaps better, and little as
well. Nothing is prepared or trained; shapes come from the config.
"""

import math
import os
import re
import tempfile
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh
from ml_collections import ConfigDict

from scaling import (
  checks,
  compute,
  hlo,
  losses,
  plan,
  rollouts,
  sample_step,
  sharding,
  study,
  train_step,
)
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics
from scaling.stages import rl, supervised
from scaling.stages import stage as stages
from scaling.stages.stage import Stage

GIB = 2.0**30


class Chip(NamedTuple):
  """Published peaks of a chip."""

  flops: float  # bfloat16 FLOPs a second
  hbm: float  # bytes of main memory
  bandwidth: float  # bytes of it read or written a second
  links: float  # bytes that it sends to its neighbours a second, over all links together


# Google Cloud's pages of the versions (cloud.google.com/tpu/docs/v4 and so on). They give links in
# both directions together, of which half is sent; for v3 and v4, a pod's all-reduce bandwidth (340
# TB/s over 1,024 chips, 1.1 PB/s over 4,096), which for v5e and v6e comes to the same half.
CHIPS = {
  'v3': Chip(123e12, 32 * GIB, 900e9, 332e9),
  'v4': Chip(275e12, 32 * GIB, 1200e9, 268e9),
  'v5e': Chip(197e12, 16 * GIB, 819e9, 200e9),
  'v5p': Chip(459e12, 95 * GIB, 2765e9, 600e9),
  'v6e': Chip(918e12, 32 * GIB, 1638e9, 400e9),
  'tpu7x': Chip(2307e12, 192 * GIB, 7380e9, 600e9),
}

# One device a chip, where the chip's cores can be one; and no question to a metadata server that
# is not there, and no lock on a TPU that is not used.
OPTIONS = {'v4': {'chip_config_name': 'megacore'}}
ENVIRONMENT = {
  'TPU_SKIP_MDS_QUERY': '1',
  'TPU_WORKER_HOSTNAMES': 'localhost',
  'TPU_ACCELERATOR_TYPE': 'v5litepod-4',
  'ALLOW_MULTIPLE_LIBTPU_LOAD': '1',
  'TPU_LOG_DIR': 'disabled',
  'TPU_MIN_LOG_LEVEL': '3',
}


class Topology(NamedTuple):
  name: str
  devices: list
  peak: Chip  # of a device: of a chip, or of its part of one where a chip is two devices


def describe(name: str) -> Topology:
  """The topology of a name, say v5e:4x4. BadInput where libtpu is missing, or does not know it."""
  for key, value in ENVIRONMENT.items():
    os.environ.setdefault(key, value)
  flags = os.environ.get('XLA_FLAGS', '').split()  # libtpu ends the process over one of CPUs
  os.environ['XLA_FLAGS'] = ' '.join(f for f in flags if not f.startswith('--xla_cpu_'))
  family, _, shape = name.lower().partition(':')
  known = ', '.join(CHIPS)
  examples = 'say v5e:4x4 or v6e:16x16 (2-D; v3 too), v4:2x2x1, v5p:4x4x4 or tpu7x:2x2x1 (3-D)'
  if family not in CHIPS or not re.fullmatch(r'\d+(x\d+){1,2}', shape):
    raise BadInput(
      f'--compile_for={name}: a chip ({known}), a colon, and its chips along each axis: {examples}'
    )
  try:
    found = topologies.get_topology_desc(
      platform='tpu', topology_name=f'{family}:{shape}', **OPTIONS.get(family, {})
    ).devices
  except jax.errors.JaxRuntimeError as error:
    words = str(error).splitlines()[0]
    raise BadInput(f'--compile_for={name}: {words}; {examples}') from error
  except (ImportError, RuntimeError) as error:
    raise BadInput(
      f'--compile_for={name} needs libtpu, which is not here: pip install -r requirements-tpu.txt'
    ) from error
  cores = 1 + max(d.core_on_chip for d in found)
  return Topology(name, list(found), Chip(*(value / cores for value in CHIPS[family])))


def make_mesh(c: ConfigDict, topology: Topology) -> Mesh:
  """The config's mesh over the topology's devices. BadInput unless it has just as many."""
  have = len(topology.devices)
  sizes = checks.axes(c, have)
  need = math.prod(sizes.values())
  if need != have:
    others = need // sizes['fsdp']
    fix = f'--config.mesh.fsdp={have // others}' if have % others == 0 else 'other axes'
    words = ' x '.join(f'{axis}={size}' for axis, size in sizes.items())
    raise BadInput(
      f'--compile_for={topology.name} has {have} devices and config.mesh {need} ({words}): '
      f'say {fix}'
    )
  return sharding.make_mesh(**sizes, devices=topology.devices)


class Program(NamedTuple):
  """One compiled function at one shape."""

  name: str
  step: Callable  # jitted
  arguments: tuple  # their shapes
  ledger: dict  # of one call

  @property
  def key(self) -> tuple:
    """Equal for programs that are the same."""
    return self.step, self.name


def _shape(dtype, *dims) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(dims, dtype)


def _batch(rows: int, width: int, *more: str) -> dict:
  names = ('tokens', 'positions', 'segment_ids')
  batch = {name: _shape(jnp.int32, rows, width) for name in names}
  return batch | {name: _shape(jnp.float32, rows, width) for name in more}


NUMBER = jax.ShapeDtypeStruct((), jnp.float32)
COUNT = jax.ShapeDtypeStruct((), jnp.int32)


def _train(recipe, loss, options, rows, width, segments, mesh, how) -> Program:
  """A train step over full rows of so many segments."""
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  state = jax.eval_shape(
    train_step.make_init(cfg, opt, mesh), jax.eval_shape(lambda: jax.random.key(0))
  )
  context = rows * width * (width / segments + 1) / 2
  return Program(
    f'{recipe["preset"]}: train step, {rows} x {width}',
    train_step.make_train_step(cfg, loss, options, opt, mesh, how),
    (state, _batch(rows, width, 'weights'), NUMBER, NUMBER),
    compute.train(cfg, rows * width, context, rows, width, how.remat, how.loss_chunk),
  )


def _learner(recipe, prompts, width, mesh, how) -> tuple[Program, Program]:
  """(the step, the scoring pass) of RL on the responses to so many prompts, all of full length."""
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  state = jax.eval_shape(
    train_step.make_init(cfg, opt, mesh), jax.eval_shape(lambda: jax.random.key(0))
  )
  G, R = recipe['group'], recipe['response_tokens']
  full = np.full((prompts, G), R)
  drawn = types.SimpleNamespace(tokens=np.zeros((prompts, G, R), np.int32), lengths=full)
  lengths = np.full(prompts, width)
  laid = rollouts.layout(np.zeros((prompts, width), np.int32), lengths, drawn, rl.shares(how, mesh))
  batch = {name: _shape(x.dtype, *x.shape) for name, x in laid.batch.items()}
  loss, options, reads = rl.loss_of(recipe)
  more = {name: _shape(jnp.float32, *batch['tokens'].shape) for name in (*reads, 'weights')}
  chunked = 0 < how.loss_chunk < laid.batch['tokens'].shape[-1]
  shape = f'{prompts} prompts of {width} x {G} x {R} tokens'
  return (
    Program(
      f'{recipe["preset"]}: {recipe["called"]} step, {shape}',
      train_step.make_train_step(cfg, loss, options, opt, mesh, how),
      (state, batch | more, NUMBER, NUMBER),
      compute.train_pass(cfg, *laid.passed, how.remat, chunked),
    ),
    Program(
      f'{recipe["preset"]}: score, {shape}',
      train_step.make_score(cfg, mesh, how),
      (transformer.form(cfg), batch, NUMBER),
      compute.score_pass(cfg, *laid.passed),
    ),
  )


def _score(recipe, rows, width, segments, mesh, how) -> Program:
  cfg = stages.model(recipe)
  context = rows * width * (width / segments + 1) / 2
  return Program(
    f'{recipe["preset"]}: score, {rows} x {width}',
    train_step.make_score(cfg, mesh, how),
    (transformer.form(cfg), _batch(rows, width), NUMBER),
    compute.score(cfg, rows * width, context, rows, width),
  )


def _sampler(recipe, prompts, samples, rows, mesh, how) -> Program:
  """The sampler, with every response as long as it may be, and prompts that fill the rest of a row
  of the data."""
  cfg, response = stages.model(recipe), recipe['response_tokens']
  width = max(8, (recipe['data']['row_tokens'] - response) // 8 * 8)
  shape = sample_step.SampleShape(prompts, samples, rows, width, response)
  arguments = (
    transformer.form(cfg),
    _shape(jnp.int32, prompts, width),
    _shape(jnp.int32, prompts),
    _shape(jnp.uint32, prompts, 2),
    jax.eval_shape(lambda: jax.random.key(0)),
    COUNT,
    COUNT,
    NUMBER,
    _shape(jnp.int32, 2, cfg.vocab_size),
    jax.tree.map(lambda x: _shape(jnp.int32, *x.shape), sample_step.no_limits(shape)),
  )
  lengths = np.full((prompts, samples), response)
  steps = sample_step.passes(shape, lengths)
  return Program(
    f'{recipe["preset"]}: sampler, {prompts} prompts of {width} x {samples} x {response} tokens',
    sample_step.make_sampler(cfg, shape, mesh, how),
    arguments,
    compute.generate(
      cfg, [width] * prompts, lengths, width, sample_step.windows(shape), steps, rows
    ),
  )


# Kinds whose shapes depend on what is sampled, not known before it is. So do episodes of RL.
UNPLANNED = ('rollouts', 'preference', 'score', 'search', 'dpo', 'synthesize', 'prompts')


def programs(stage: Stage, mesh: Mesh, how: Mechanics) -> list[tuple[float, Program]]:
  """The programs of a stage, and how often it calls each.

  Rows are counted as full, packed ones of two segments each, as `--plan` does.
  """
  if stage.kind in UNPLANNED or (stage.kind == 'rl' and stage.recipe['turns'] > 1):
    return []
  recipe, width = stage.recipe, stage.recipe['data']['row_tokens']
  how = stages.mechanics(how, recipe, mesh)
  if stage.kind == 'sample':
    block = recipe['block_prompts'], recipe['block_samples']
    blocks = recipe['problems'] * recipe['n'] / (block[0] * block[1])
    return [(blocks, _sampler(recipe, *block, recipe['block_rows'], mesh, how))]
  steps = recipe['stop'] - recipe['start']
  if stage.kind != 'rl':
    step = _train(recipe, losses.cross_entropy, None, recipe['rows'], width, 2, mesh, how)
    found = [(steps, step)] * (steps > 0)
    if recipe['measure']:
      rows = supervised.evaluation_rows(mesh, how)
      found.append((1, _score(recipe, rows, width, 2, mesh, how)))
    return found
  P, G, M = recipe['prompts'], recipe['group'], recipe['minibatches']
  sampler = _sampler(recipe, P, G, G, mesh, how)
  width = sampler.arguments[1].shape[1]
  step, _ = _learner(recipe, P // M, width, mesh, how)
  _, score = _learner(recipe, P, width, mesh, how)
  scores = 1 + (recipe['kl_coef'] > 0 or recipe['measure_kl'])
  return [(steps, sampler), (steps * scores, score), (steps * M * recipe['epochs'], step)]


class Roofline(NamedTuple):
  """Seconds of one call on one device, for each of what bounds it, and the utilisation at best."""

  compute: float
  memory: float
  links: float
  mfu: float  # model FLOPs of all devices / (the longest of the times x their peak)

  @property
  def seconds(self) -> float:
    return max(self.compute, self.memory, self.links)


def roofline(ledger: dict, profile: hlo.Profile, peak: Chip, devices: int) -> Roofline:
  """The Roofline of one call: its executed FLOPs evenly on all devices, each at its peak."""
  arithmetic = compute.total(ledger, 'executed') / devices / peak.flops
  memory = profile.traffic / peak.bandwidth
  links = sum(c.sent for c in profile.collectives.values()) / peak.links
  longest = max(arithmetic, memory, links)
  return Roofline(
    arithmetic, memory, links, compute.total(ledger) / (longest * devices * peak.flops)
  )


class Compiled(NamedTuple):
  """What came of a program. profile and roofline are None where libtpu refused it for memory."""

  memory: dict[str, float]  # bytes a device: arguments, results (not in their place), temporaries
  need: str  # memory in words
  fits: bool
  profile: hlo.Profile | None
  roofline: Roofline | None
  seconds: float  # to compile


def _refusal(error: Exception) -> str | None:
  """'needs X of Y GiB', of libtpu's message that a program does not fit; None for other errors."""
  text = str(error)
  size = r'([\d.]+[KMGT]?)'
  used = re.search(f'Used {size} of {size} hbm', text)
  alone = re.search(rf'temporaries \({size}\) exceeds available HBM \({size}\)', text)
  if used:
    return f'needs {used.group(1)}iB of {used.group(2)}iB'
  if alone:
    return f'temporaries alone need {alone.group(1)}iB of {alone.group(2)}iB'
  return 'needs more than there is' if 'RESOURCE_EXHAUSTED' in text else None


def build(lowered: jax.stages.Lowered) -> tuple[jax.stages.Compiled, str]:
  """Compiles, and returns the HLO too, as libtpu writes it down: jaxlib cannot read all that a
  libtpu newer than itself hands it."""
  with tempfile.TemporaryDirectory() as folder:
    compiled = lowered.compile({'xla_dump_to': folder, 'xla_dump_hlo_as_text': True})
    (path,) = Path(folder).rglob('*after_optimizations.txt')
    return compiled, path.read_text()


def compile_program(program: Program, topology: Topology) -> Compiled:
  """Lowers and compiles a program, and reads what came of it."""
  began = time.monotonic()
  try:
    compiled, text = build(program.step.lower(*program.arguments))
  except jax.errors.JaxRuntimeError as error:
    words = _refusal(error)
    if words is None:
      raise
    return Compiled({}, words, False, None, None, time.monotonic() - began)
  seconds, stats, peak = time.monotonic() - began, compiled.memory_analysis(), topology.peak
  memory = {
    'arguments': stats.argument_size_in_bytes,
    'results': stats.output_size_in_bytes - stats.alias_size_in_bytes,
    'temporaries': stats.temp_size_in_bytes,
  }
  need = sum(memory.values())
  words = f'{_size(need)} of {_size(peak.hbm)}'
  profile = hlo.profile(text)
  bound = roofline(program.ledger, profile, peak, len(topology.devices))
  return Compiled(memory, words, need <= peak.hbm, profile, bound, seconds)


def _time(seconds: float) -> str:
  """0.0123 -> '12.3 ms'."""
  units = ((1e-3, 1e6, 'us'), (1, 1e3, 'ms'), (600, 1, 's'), (36000, 1 / 60, 'min'))
  factor, unit = next(((f, u) for limit, f, u in units if seconds < limit), (1 / 3600, 'h'))
  return f'{seconds * factor:.3g} {unit}'


def _size(value: float) -> str:
  """Bytes in words: '1.50 GiB', '12.0 MiB'."""
  return f'{value / GIB:.2f} GiB' if value > GIB / 10 else f'{value / 2**20:.1f} MiB'


def _lines(program: Program, compiled: Compiled) -> list[str]:
  """A program's part of the report."""
  model, executed = (
    plan.human(compute.total(program.ledger, which)) for which in ('model', 'executed')
  )
  lines = [
    f'{program.name}  (compiled in {compiled.seconds:.0f} s)',
    f'  HBM a chip    {compiled.need}: {"fits" if compiled.fits else "DOES NOT FIT"}',
    f'  FLOPs         {model} model, {executed} executed, all chips',
  ]
  if compiled.memory:
    parts = ', '.join(f'{part} {_size(size)}' for part, size in compiled.memory.items())
    lines[1] += f' ({parts})'
  if compiled.profile is not None:
    profile, bound = compiled.profile, compiled.roofline
    kinds = [
      f'{kind} {c.count:.0f} x, {_size(c.sent)}'
      for kind in hlo.KINDS
      for c in [profile.collectives.get(kind)]
      if c
    ]
    times = {'arithmetic': bound.compute, 'HBM': bound.memory, 'links': bound.links}
    longest = max(times, key=times.get)
    lines += [
      f'  HBM traffic   {_size(profile.traffic)} a chip',
      f'  sent a chip   {"; ".join(kinds) or "nothing"}',
      f'  roofline      {", ".join(f"{k} {_time(v)}" for k, v in times.items())}: '
      f'at least {_time(bound.seconds)}, bound by {longest}, MFU at most {bound.mfu:.0%}',
    ]
  return lines


def _say(text: str) -> None:
  print(text, flush=True)


def report(c: ConfigDict, name: str, say: Callable[[str], None] = _say) -> None:
  """Compiles all programs of a study for a topology, and says of each, and of each stage, what it
  would take. BadInput for a topology, a mesh or a config that cannot be."""
  jax.config.update('jax_platforms', 'cpu')  # libtpu is there; a TPU to run on is not asked for
  tree = study.expand(c)
  if c.hosted.model:
    raise BadInput('--compile_for: config.hosted.model is set, and such a study compiles nothing')
  topology = describe(name)
  mesh = make_mesh(c, topology)
  study.check_mesh(c, tree, mesh)
  how = Mechanics(**c.mechanics)
  say(_heading(c, topology, mesh, stages.mechanics(how, tree[0].recipe, mesh)))
  found, done = {stage.id: programs(stage, mesh, how) for stage in tree}, {}
  for stage in tree:
    for _, program in found[stage.id]:
      if program.key not in done:
        done[program.key] = compile_program(program, topology)
        say('\n' + '\n'.join(_lines(program, done[program.key])))
  say('\nstages, each at its roofline:')
  for stage in tree:
    words = _of_stage(found[stage.id], done, topology)
    if stage.kind in UNPLANNED:
      words = 'not compiled, as its shapes depend on what will be sampled'
    say(f'  {stage.label}: {words}')


def _heading(c: ConfigDict, topology: Topology, mesh: Mesh, how: Mechanics) -> str:
  axes = ' x '.join(f'{axis}={size}' for axis, size in mesh.shape.items() if size > 1)
  peak = topology.peak
  return (
    f'study {c.name} on {topology.name}, {mesh.size} devices, {axes or "no axis split"}\n'
    f'  a device: {peak.flops / 1e12:.0f} TFLOP/s, HBM {peak.hbm / GIB:.0f} GiB at '
    f'{peak.bandwidth / 1e9:.0f} GB/s, sends {peak.links / 1e9:.0f} GB/s\n'
    f'  {", ".join(f"{key} {value}" for key, value in how._asdict().items())}'
  )


def _of_stage(found: list[tuple[float, Program]], done: dict, topology: Topology) -> str:
  """What a stage would take at least."""
  if not found:
    return 'no steps'
  if any(done[program.key].roofline is None for _, program in found):
    return 'DOES NOT FIT'
  seconds = sum(times * done[program.key].roofline.seconds for times, program in found)
  flops = sum(times * compute.total(program.ledger) for times, program in found)
  mfu = flops / (seconds * len(topology.devices) * topology.peak.flops)
  fits = all(done[program.key].fits for _, program in found)
  words = '' if fits else ', DOES NOT FIT'
  calls = ', '.join(
    f'{times:g} x {program.name.partition(": ")[2].partition(",")[0]}' for times, program in found
  )
  return f'{_time(seconds)} ({calls}; {plan.human(flops, "FLOP")}, MFU at most {mfu:.0%}){words}'
