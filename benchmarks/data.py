"""The data of a study: how full rows are, how fast they are made and read, what a sweep shares.

    python -m benchmarks.data --out=docs/results/benchmark-data.json

Works and metrics of the file:

- `pack`: GSM8K's training file in rows of 512 tokens of a bpe(1024) trained on it. positions_used:
  the part of all positions that hold a token, by our packing and by seqio's own of the same
  examples in the same order.
- `prepare 10 MB`, ...: GSM8K's training file over and over, its digits drawn anew, made into an SFT
  pool in rows of 512, on one core: read, checked for repeats and for words of held-out prompts,
  tokenised (a bpe(1024), training included), packed, written. Seconds begin when all is imported
  (without TensorFlow: it mixes tasks, and here is one). mb_per_second: of the file, by the clock;
  mb_per_cpu_second: by the time that the process had a core, which other programs change less.
  peak_memory: bytes, resident, of the whole process; imports_memory: before it began.
- `read`: batches of 32 x 256 of a pool on disk, as stage sft reads them, beside a train step of the
  reference model (d 256, 6 layers, 4 heads, ff 704, vocabulary 256). seconds of each, and
  part_of_a_step.
- `sweep`: five budgets of tokens, each twice the last. saving: 1 - FLOPs of one trunk and five
  decay branches over those of five runs, of the plan of a study and by arithmetic. With a decay
  over the last part f of each budget, budgets b, 2b, ... 16b and their sum 31b, the branches cost
  31 f b and the trunk goes on to (1 - f) 16 b: the saving is (1 - f) 15 / 31, at f = 0 48.4 % (52 %
  of the cost remain).
"""

import argparse
import json
import pathlib
import sys
import tempfile

from benchmarks import harness
from benchmarks.train import CPU_ENVIRONMENT, works
from experiments import quickstart
from scaling import plan, study

TEXT = harness.ROOT / '../shared/data/gsm8k/train.jsonl'
DECAYS = (0.2, 0.1)
ONE_CORE = {'JAX_PLATFORMS': 'cpu', 'CUDA_VISIBLE_DEVICES': '', 'TOKENIZERS_PARALLELISM': 'false'}


def sweep(decay: float, budgets: int = 5) -> tuple[float, float]:
  """(the saving that a study plans, the saving by arithmetic) of budgets that double."""
  c = quickstart.get_config()
  c.seeds, c.model.sizes = (0,), c.model.sizes[-1:]
  c.pretrain.tokens, c.pretrain.tasks = (), ()
  c.rl.updates = c.rl.sizes = c.rl.sft_tokens = ()
  step = c.sft.rows * c.data.row_tokens
  c.sft.decay, c.sft.tokens = decay, tuple(step * 100 * 2**i for i in range(budgets))
  planned, alone = plan.sharing(study.expand(c))
  cost = sum(2**i for i in range(budgets))
  return 1 - planned / alone, (1 - decay) * (1 - 2 ** (budgets - 1) / cost)


def measure(text: pathlib.Path, sizes: list[float], repeats: int, quick: bool):
  """(machine, rows, skipped): what the file holds."""
  machine, rows = harness.machine(), []
  for decay in DECAYS:
    for tool, saving in zip(('postscale', 'bound'), sweep(decay), strict=True):
      rows.append(harness.row(tool, f'sweep, decay {decay}', 'saving', [saving]))
  model = works()['tiny' if quick else 'reference'].model
  read = _ask('read', CPU_ENVIRONMENT, model=model, repeats=repeats)
  parts = [a / b for a, b in zip(read['batch'], read['step'], strict=True)]
  rows += [
    harness.row('postscale', 'read', 'batch_seconds', read['batch']),
    harness.row('postscale', 'read', 'step_seconds', read['step']),
    harness.row('postscale', 'read', 'part_of_a_step', parts),
  ]
  if not text.is_file():
    return machine, rows, {'pack, prepare': f'{text} is not there: give it with --text'}
  with tempfile.TemporaryDirectory() as scratch:
    packed = _ask('pack', ONE_CORE, text=str(text), scratch=scratch)
    for tool in ('postscale', 'seqio'):
      rows.append(harness.row(tool, 'pack', 'positions_used', [packed[tool]]))
    for size in sizes:
      made = _ask('prepare', ONE_CORE, text=str(text), scratch=scratch, megabytes=size)
      for metric, value in made.items():
        rows.append(harness.row('postscale', f'prepare {size:g} MB', metric, [value]))
  return machine, rows, {}


def _ask(what: str, env: dict, **message) -> dict:
  """The answer of a worker of its own."""
  harness.say(f'{what}: {message.get("megabytes", "")}')
  worker = harness.start(what, 'benchmarks.data_workers', [], env)
  try:
    return harness.ask(worker, **message)
  finally:
    harness.stop(worker)


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.data', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--out', required=True, help='the JSON file to write')
  parser.add_argument('--text', default=str(TEXT), help="GSM8K's train.jsonl")
  parser.add_argument('--sizes', default='10,40,160', help='MB, by comma; default: 10,40,160')
  parser.add_argument('--repeats', type=int, default=9, help='turns of reading; default: 9')
  parser.add_argument('--quick', action='store_true', help='2 MB and a tiny model: a smoke test')
  args = parser.parse_args(argv)
  sizes = [2.0] if args.quick else [float(size) for size in args.sizes.split(',')]
  repeats = 2 if args.quick else args.repeats
  machine, rows, skipped = measure(pathlib.Path(args.text), sizes, repeats, args.quick)
  harness.write(args.out, machine, rows, skipped)
  print(harness.table(rows, skipped, base='postscale'))
  print(json.dumps({'wrote': args.out, 'load_at_start': machine['load_at_start']}))


if __name__ == '__main__':
  main(sys.argv[1:])
