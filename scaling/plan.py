"""What a study would do, in words: `run.py --plan`. Nothing is run but a short matmul, timed."""

import time

import jax
import jax.numpy as jnp
import numpy as np

from scaling import compute, study
from scaling.stages import stage as stages

# Part of the matmul peak that a kind of stage was seen to reach on CPU (docs/lab-log.md).
EFFICIENCY = {'pretrain': 0.2, 'sft': 0.2, 'rl': 0.12, 'sample': 0.1}
COMPILE_SECONDS = 4.0  # a program of a stage's kind, for each size
DATA_SECONDS = 15.0


def matmul_peak(size: int = 1024, repeats: int = 5) -> float:
  """FLOPs a second of a square float32 matmul: the best of a few."""
  x = jnp.ones((size, size))
  multiply = jax.jit(lambda x: x @ x)
  multiply(x).block_until_ready()
  times = []
  for _ in range(repeats):
    began = time.monotonic()
    multiply(x).block_until_ready()
    times.append(time.monotonic() - began)
  return 2 * size**3 / min(times)


def human(value: float, unit: str = '') -> str:
  """1234567 -> '1.23M': three digits and a letter."""
  for power, letter in ((1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G'), (1e6, 'M'), (1e3, 'k')):
    if abs(value) >= power:
      return f'{value / power:.3g}{letter}{unit}'
  return f'{value:.3g}{unit}'


def seconds(tree: list[stages.Stage], peak: float) -> float:
  """Estimated wall time of stages that are not done."""
  programs = {(s.kind, s.recipe['preset']) for s in tree}
  work = sum(
    compute.total(study.estimate(s), 'executed') / (peak * EFFICIENCY[s.kind]) for s in tree
  )
  return work + COMPILE_SECONDS * len(programs) + DATA_SECONDS


def describe(c, workdir=None) -> str:
  """The tree of stages with parameters, tokens and FLOPs, and the totals.

  Banks are folded into the stage they measure. Stages already done in the workdir are marked.
  """
  tree = study.expand(c)
  is_done = {s.id: workdir is not None and stages.done(workdir, s.id) is not None for s in tree}
  depth, lines = {}, [f'study {c.name}: {c.data.task}']
  for s in tree:
    depth[s.id] = 0 if s.parent is None else depth[s.parent] + 1
    cost = study.estimate(s)
    kinds = ', '.join(f'{k} {human(v)}' for k, v in cost['model'].items() if v)
    about = f'{compute.parameters(stages.model(s.recipe)).non_embedding:,} parameters'
    if s.kind in ('pretrain', 'sft'):
      steps = s.recipe['stop'] - s.recipe['start']
      about += f', {human(steps * s.recipe["rows"] * s.recipe["data"]["row_tokens"])} tokens'
    mark = ' [done]' if is_done[s.id] else ''
    lines.append(f'{"  " * depth[s.id]}{s.id}  {s.label}{mark}')
    lines.append(f'{"  " * depth[s.id]}    {about}; FLOPs: {kinds or "none"}')
  total = compute.add(*(study.estimate(s) for s in tree))
  left = [s for s in tree if not is_done[s.id]]
  planned, alone = study.sharing(tree)
  peak = matmul_peak()
  stderr = 0.5 / np.sqrt(c.data.test_problems)
  kinds = {k: human(v) for k, v in total['model'].items() if v}
  lines += [
    '',
    f'{len(tree)} stages, {len(tree) - len(left)} of them done',
    'model FLOPs: ' + ', '.join(f'{k} {v}' for k, v in kinds.items())
    + f'; all {human(compute.total(total))} (executed: {human(compute.total(total, "executed"))})',
    f'training shared between cells: {human(planned)} FLOPs instead of {human(alone)} as '
    f'independent runs, {1 - planned / max(alone, 1):.0%} saved',
    f'standard error of an accuracy over {c.data.test_problems} problems: at most {stderr:.3f}',
    f'about {seconds(left, peak) / 60:.1f} minutes here (matmul peak {human(peak, "FLOP/s")})',
  ]  # fmt: skip
  return '\n'.join(lines)
