"""Speed of reinforcement learning, beside other tools: seconds of one GRPO update.

    python -m benchmarks.rl --out=results/rl.json

An update draws 8 responses of 64 tokens to each of 16 prompts of 64, rewards them by a trivial
function, and takes one AdamW step on GRPO's loss (clip 0.2, group advantages, no KL), from the same
architecture (Llama, 4.95M parameters, float32), in a process of its own; the tools take turns. No
token ends a response. A tool that is not installed is skipped; requirements-bench.txt has them.
Metrics of the file:

- seconds_per_update: of a turn of several updates.
- peak_memory: bytes; the process's resident high-water mark on a CPU.
- first_update_seconds: the first update, which traces and compiles.

Postscale scores the samples with the learner before the update (its old log-probs); TRL, with one
iteration a batch, takes the new ones without their gradient instead. Postscale runs in the
environment that the file records under machine.environment.
"""

import argparse
import json
import sys

from benchmarks import harness
from benchmarks.train import CORES, CPU_ENVIRONMENT, works

PEERS = ('trl', 'tunix', 'jax-loop')
WORKS = {
  'reference': {'prompts': 16, 'group': 8, 'prompt_tokens': 64, 'response_tokens': 64},
  'tiny': {'prompts': 4, 'group': 2, 'prompt_tokens': 8, 'response_tokens': 8},
}


def measure(name: str, tools: list[str], repeats: int, updates: int):
  """(machine, rows, skipped) of one work: what the file holds."""
  work = WORKS[name] | {'model': works()[name].model, 'data': 1 if name == 'tiny' else CORES}
  machine = harness.machine(environment={'postscale': CPU_ENVIRONMENT}, cpu_devices=work['data'])
  others = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': ''}

  def begin(tool):
    environment = CPU_ENVIRONMENT if tool == 'postscale' else others
    return harness.start(tool, 'benchmarks.rl_workers', [json.dumps(work)], environment)

  warm = lambda worker: (harness.ask(worker, updates=1), {'updates': updates})
  first, answers, skipped = harness.compare(tools, begin, warm, repeats, True)
  rows = []
  for tool in first:
    mine = [a for a in answers if a['tool'] == tool]
    memory = max(a['peak_memory'] for a in mine)
    rows += [
      harness.row(tool, name, 'seconds_per_update', [a['seconds'] / updates for a in mine]),
      harness.row(tool, name, 'peak_memory', [memory]),
      harness.row(tool, name, 'first_update_seconds', [first[tool]['seconds']]),
    ]
  return machine, rows, skipped


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.rl', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--out', required=True, help='the JSON file to write')
  parser.add_argument('--tools', default=','.join(PEERS), help='peers, by comma; default: all')
  parser.add_argument('--repeats', type=int, default=5, help='turns of each tool; default: 5')
  parser.add_argument('--updates', type=int, default=2, help='in a turn; default: 2')
  parser.add_argument('--quick', action='store_true', help='2 turns of a tiny model: a smoke test')
  args = parser.parse_args(argv)
  peers = [tool for tool in args.tools.split(',') if tool]
  if unknown := set(peers) - set(PEERS):
    parser.error(f'--tools: {", ".join(unknown)} is unknown; there are {", ".join(PEERS)}')
  name, repeats, updates = (
    ('tiny', 2, 1) if args.quick else ('reference', args.repeats, args.updates)
  )
  machine, rows, skipped = measure(name, ['postscale', *peers], repeats, updates)
  harness.write(args.out, machine, rows, skipped)
  print(harness.table(rows, skipped, base='postscale'))
  print(f'wrote {args.out}; environment of postscale: {machine["environment"]["postscale"]}')


if __name__ == '__main__':
  main(sys.argv[1:])
