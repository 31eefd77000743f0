"""Sampling speed, beside other tools: tokens/s, peak memory, time of the first call.

    python -m benchmarks.sample --out=results/sample.json

Every tool samples from the same architecture (Llama: RMSNorm, rotary positions, SwiGLU) at
temperature 1, the same number of responses to the same random prompts, in a process of its own;
the tools take turns. No token stops a response: its length is given. A tool that is not installed
is skipped; requirements-bench.txt has them. Metrics of the file:

- tokens_per_second: tokens of responses over the time of one call, prefill and all.
- peak_memory: bytes; the process's resident high-water mark on a CPU, the device's on a GPU.
- first_call_seconds: the first call, which traces and compiles.
- bandwidth, on a GPU: the fewest bytes that decoding must read (the parameters once a token, and
  the keys and values so far of each row) over the time of the call, as a part of the rate at which
  the device copies memory, read and written counted, measured in the same run.

Works: `16x16`, 16 prompts x 16 samples, 64 prompt + 128 new tokens; `64x16`; `geometric`, 64x16
with geometric lengths of mean 64 cut at 128, the same for all tools: Postscale gives a row that has
ended the next sample of its prompt, the others wait for the longest of a batch. All are for a CPU.
`1b`, Llama 3.2 1B in bfloat16 at 64 rows of 512 + 512 tokens, is for a GPU with 80 GB, where each
tool runs alone. Postscale runs in the environment that the file records under machine.environment.
"""

import argparse
import dataclasses
import json
import math
import sys

import ml_dtypes  # noqa: F401  NumPy then knows bfloat16
import numpy as np

from benchmarks import harness
from benchmarks.train import CORES, CPU_ENVIRONMENT
from benchmarks.train import works as training_works
from scaling import compute
from scaling.model import transformer

PEERS = ('hf-static', 'hf-dynamic', 'tunix', 'jax-loop')


@dataclasses.dataclass(frozen=True)
class Work:
  """What is sampled from, how much, and how Postscale computes it."""

  model: dict  # of transformer.ModelConfig
  prompts: int
  samples: int  # of each prompt
  rows: int  # of each prompt that Postscale decodes at a time
  prompt_tokens: int
  response_tokens: int
  mean_length: int  # of geometric lengths; 0: all of response_tokens
  data: int  # devices over which Postscale splits the prompts
  mechanics: dict  # of transformer.Mechanics
  environment: dict  # of Postscale's process


def works() -> dict[str, Work]:
  """By name."""
  of = lambda name: training_works()[name].model
  cpu = lambda model, P, n, m, S, T, mean=0: Work(
    model, P, n, m, S, T, mean, math.gcd(CORES, P), {}, CPU_ENVIRONMENT
  )
  return {
    '16x16': cpu(of('reference'), 16, 16, 16, 64, 128),
    '64x16': cpu(of('reference'), 64, 16, 16, 64, 128),
    'geometric': cpu(of('reference'), 64, 16, 4, 64, 128, 64),
    'tiny': cpu(of('tiny'), 4, 4, 2, 8, 8, 4),
    '1b': Work(of('1b'), 64, 1, 1, 512, 512, 0, 1, {'attention': 'cudnn'}, {}),
  }


def least_bytes(work: Work) -> float:
  """What decoding must read at least, over all tokens of the work; see the metric `bandwidth`."""
  cfg = transformer.ModelConfig(**work.model)
  size = np.dtype(cfg.dtype).itemsize
  rows, T = work.prompts * work.rows, work.response_tokens
  parameters = compute.parameters(cfg).total * size
  token = 2 * cfg.n_layers * cfg.n_kv_heads * cfg.head_dim * size  # a key and a value of each layer
  return T * (parameters + rows * token * (work.prompt_tokens + T / 2))


def measure(name: str, tools: list[str], repeats: int):
  """(machine, rows, skipped) of one work: what the file holds."""
  work = works()[name]
  machine = harness.machine(environment={'postscale': work.environment}, cpu_devices=work.data)
  others = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''} if work.environment else {}
  args = [json.dumps(dataclasses.asdict(work))]

  def begin(tool):
    environment = work.environment if tool == 'postscale' else others
    return harness.start(tool, 'benchmarks.sample_workers', args, environment)

  warm = lambda worker: (harness.ask(worker, seed=0), {'seed': 1})
  on_cpu = bool(work.environment)
  ceiling = [] if on_cpu else ['copy']
  first, answers, skipped = harness.compare([*ceiling, *tools], begin, warm, repeats, on_cpu)
  copied = [a['tokens'] / a['seconds'] for a in answers if a['tool'] == 'copy']
  rows = []
  for tool in [tool for tool in tools if tool in first]:
    mine = [a for a in answers if a['tool'] == tool]
    speeds = [a['tokens'] / a['seconds'] for a in mine]
    memory = max(a['peak_memory'] for a in mine)
    rows += [
      harness.row(tool, name, 'tokens_per_second', speeds),
      harness.row(tool, name, 'peak_memory', [memory]),
      harness.row(tool, name, 'first_call_seconds', [first[tool]['seconds']]),
    ]
    if not on_cpu:
      used = [least_bytes(work) / a['seconds'] / max(copied) for a in mine]
      rows.append(harness.row(tool, name, 'bandwidth', used))
  if not on_cpu:
    machine['copied_bytes_per_second'] = max(copied)
  return machine, rows, skipped


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.sample',
    description=__doc__,
    formatter_class=argparse.RawTextHelpFormatter,
  )
  parser.add_argument('--out', required=True, help='the JSON file to write')
  parser.add_argument('--work', default='16x16,64x16,geometric', help='by comma; default: these')
  parser.add_argument('--tools', default=','.join(PEERS), help='peers, by comma; default: all')
  parser.add_argument('--repeats', type=int, default=5, help='turns of each tool; default: 5')
  parser.add_argument('--quick', action='store_true', help='2 turns of a tiny model: a smoke test')
  args = parser.parse_args(argv)
  peers = [tool for tool in args.tools.split(',') if tool]
  if unknown := set(peers) - set(PEERS):
    parser.error(f'--tools: {", ".join(unknown)} is unknown; there are {", ".join(PEERS)}')
  names, repeats = (['tiny'], 2) if args.quick else (args.work.split(','), args.repeats)
  if unknown := set(names) - set(works()):
    parser.error(f'--work: {", ".join(unknown)} is unknown; there are {", ".join(works())}')
  rows, skipped = [], {}
  for name in names:
    machine, more, without = measure(name, ['postscale', *peers], repeats)
    rows, skipped = rows + more, skipped | without
  harness.write(args.out, machine, rows, skipped)
  print(harness.table(rows, skipped, base='postscale'))
  print(f'wrote {args.out}; environment of postscale: {machine["environment"]["postscale"]}')


if __name__ == '__main__':
  main(sys.argv[1:])
