"""Training speed, beside other tools: tokens/s, MFU, peak memory, time to the first step.

    python -m benchmarks.train --out=results/train.json

Every tool trains the same architecture (Llama: RMSNorm, rotary positions, SwiGLU) on the same
batch with AdamW, in a process of its own; the tools take turns. nanodo has an architecture of its
own, GPT-2's, here with as many products. A tool that is not installed is skipped;
requirements-bench.txt has them, but for nanodo
(pip install --no-deps git+https://github.com/google-deepmind/nanodo). Metrics of the file:

- tokens_per_second, of a turn of several steps.
- mfu: model FLOPs/s (scaling.compute: 2 FLOPs a multiply-add, causal attention, nothing for what is
  computed again) over the fastest square matmul seen in the same run.
- peak_memory: bytes; the process's resident high-water mark on a CPU, the device's on a GPU.
- first_step_seconds: the first call of the step, which traces and compiles.

The work `reference` is for a CPU. `1b`, Llama 3.2 1B in bfloat16 at 2048 tokens, is for a GPU with
80 GB, where each tool runs alone. Postscale runs in the environment that the file records under
machine.environment; the other tools in the caller's.
"""

import argparse
import dataclasses
import json
import math
import os
import sys

from benchmarks import harness
from scaling import compute
from scaling.model import presets, transformer

PEERS = ('hf-eager', 'hf-compile', 'tunix', 'nanodo')
CORES = len(os.sched_getaffinity(0))

# One CPU device a core, each working on its own rows: no thread waits for another within a product.
CPU_ENVIRONMENT = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_cpu_multi_thread_eigen=false'}


@dataclasses.dataclass(frozen=True)
class Work:
  """What is trained, and how Postscale computes it."""

  model: dict  # of transformer.ModelConfig
  rows: int
  tokens: int  # in each row
  peak_size: int  # of the square matmul
  data: int  # devices over which Postscale splits the rows
  mechanics: dict  # of transformer.Mechanics
  environment: dict  # of Postscale's process


def works() -> dict[str, Work]:
  """By name."""
  reference = transformer.ModelConfig(
    vocab_size=256,
    d_model=256,
    n_layers=6,
    n_heads=4,
    n_kv_heads=4,
    head_dim=64,
    d_ff=704,
    tied_embeddings=False,
  )
  tiny = dataclasses.replace(reference, d_model=32, n_layers=2, head_dim=8, d_ff=64)
  one_b = presets.model_config('llama-3.2-1b', vocab_size=128_256, dtype='bfloat16')
  data = math.gcd(CORES, 32)
  # Two rows at a time fit the cache.
  on_cpu = {'microbatches': max(1, 32 // data // 2), 'unroll': reference.n_layers}
  gpu = {'attention': 'cudnn', 'remat': 'dots', 'unroll': one_b.n_layers}
  return {
    'reference': Work(dataclasses.asdict(reference), 32, 256, 2048, data, on_cpu, CPU_ENVIRONMENT),
    'tiny': Work(dataclasses.asdict(tiny), 8, 32, 256, 1, {}, CPU_ENVIRONMENT),
    '1b': Work(dataclasses.asdict(one_b), 8, 2048, 8192, 1, gpu, {}),
  }


def flops_per_token(work: Work) -> float:
  """Model FLOPs of a training step for each token."""
  cfg = transformer.ModelConfig(**work.model)
  tokens, context = compute.causal([work.tokens] * work.rows)
  return compute.total(compute.train(cfg, tokens, context, work.rows, work.tokens)) / tokens


def measure(name: str, tools: list[str], repeats: int, seconds: float):
  """(machine, rows, skipped) of one work: what the file holds."""
  work = works()[name]
  tokens = work.rows * work.tokens
  machine = harness.machine(environment={'postscale': work.environment}, cpu_devices=work.data)
  # A JAX that finds a TPU library or a GPU is told to stay on the CPU, and so is torch.
  others = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''} if work.environment else {}
  environment = lambda tool: work.environment if tool == 'postscale' else others
  args, steps = [json.dumps(dataclasses.asdict(work))], {}

  def warm(worker):
    answer = harness.ask(worker, steps=1)
    if 'skipped' in answer:
      return answer, {}
    pace = [harness.ask(worker, steps=1)['seconds'] for _ in range(2)][-1]
    steps[worker.tool] = max(1, round(seconds / pace))
    return answer, {'steps': steps[worker.tool]}

  begin = lambda tool: harness.start(tool, 'benchmarks.train_workers', args, environment(tool))
  on_cpu = bool(work.environment)
  first, answers, skipped = harness.compare(['matmul', *tools], begin, warm, repeats, on_cpu)

  of = lambda tool: [a for a in answers if a['tool'] == tool]
  peak = max(2 * work.peak_size**3 * steps['matmul'] / a['seconds'] for a in of('matmul'))
  machine['matmul_flops_per_second'] = peak
  machine['losses'] = {}  # after the same number of seconds, not of steps: a sign of life
  rows = []
  for tool in [tool for tool in tools if tool in first]:
    speeds = [tokens * steps[tool] / a['seconds'] for a in of(tool)]
    memory = max(a['peak_memory'] for a in of(tool))
    machine['losses'][tool] = of(tool)[-1]['loss']
    rows += [
      harness.row(tool, name, 'tokens_per_second', speeds),
      harness.row(tool, name, 'mfu', [s * flops_per_token(work) / peak for s in speeds]),
      harness.row(tool, name, 'peak_memory', [memory]),
      harness.row(tool, name, 'first_step_seconds', [first[tool]['seconds']]),
    ]
  return machine, rows, skipped


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.train', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--out', required=True, help='the JSON file to write')
  parser.add_argument('--work', default='reference', choices=works(), help='default: reference')
  parser.add_argument('--tools', default=','.join(PEERS), help='peers, by comma; default: all')
  parser.add_argument('--repeats', type=int, default=9, help='turns of each tool; default: 9')
  parser.add_argument('--seconds', type=float, default=6, help='of one turn; default: 6')
  parser.add_argument(
    '--quick', action='store_true', help='3 turns of 1 second of a tiny model: a smoke test'
  )
  args = parser.parse_args(argv)
  peers = [tool for tool in args.tools.split(',') if tool]
  if unknown := set(peers) - set(PEERS):
    parser.error(f'--tools: {", ".join(unknown)} is unknown; there are {", ".join(PEERS)}')
  name, repeats, seconds = args.work, args.repeats, args.seconds
  if args.quick:
    name, repeats, seconds = 'tiny', 3, 1.0
  machine, rows, skipped = measure(name, ['postscale', *peers], repeats, seconds)
  harness.write(args.out, machine, rows, skipped)
  print(harness.table(rows, skipped, base='postscale'))
  print(f'matmul peak {machine["matmul_flops_per_second"] / 1e9:.0f} GFLOP/s; wrote {args.out}')
  print(f'environment of postscale: {machine["environment"]["postscale"]}')


if __name__ == '__main__':
  main(sys.argv[1:])
