"""Speed of fitting Chinchilla's law, beside the published notebook's procedure and scipy.

    python -m benchmarks.fit --out=results/fit.json

The table is 240 runs: those read off Chinchilla's figure (--table, a CSV with `Model Size`,
`Training FLOP` and `loss`; the 5 highest losses are left out), or as many made up with a like
noise. All minimise the sum of Huber's loss, delta 1e-3, of log losses. The tools:

- postscale: analysis.fit.fit, all of it: starts, minima, bootstrap, what is not identified.
- notebook: the procedure of the replication of Chinchilla's third fit (2404.10102): scipy's BFGS on
  the log-sum-exp form, its gradient by autograd, one minimisation after another.
- scipy: the same with the gradient written by hand: what a careful person would write.

Works: `global`, from the grid of 4500 starts that was published; Postscale has its own starts;
`bootstrap`, 1000 resamples of the rows, the same for all, each from one start, the optimum (where
Postscale's time has its global fit in it). notebook and scipy do a `--share` of the starts and
resamples, and their seconds are divided by it. Metrics:

- seconds: of the whole work.
- excess: how far above the lowest objective that any tool found a tool's are, relatively, the
  worst case over what it did: 0 is never a worse objective.
- first_seconds: of Postscale, the first fit of a process; nothing is compiled.
- seconds_10000: of 10,000 resamples of a law on made-up data, by law (work `any`, one turn).
"""

import argparse
import os
import sys

import numpy as np

from benchmarks import fit_workers, harness

TOOLS = ('notebook', 'scipy')


def measure(table: str, tools: list[str], repeats: int, share: float, resamples: int, laws):
  """(machine, rows, skipped): what the file holds."""
  machine = harness.machine(
    data=os.path.basename(table) if os.path.exists(table) else 'made up',
    share=share,
    resamples=resamples,
  )
  workers, skipped, rows = [], {}, []
  for tool in ('postscale', *tools):
    harness.say(f'{tool}: starting')
    args = [table, str(share), str(resamples)]
    worker = harness.start(tool, 'benchmarks.fit_workers', args, {'CUDA_VISIBLE_DEVICES': ''})
    answer = harness.ask(worker, work='first')
    if 'skipped' in answer:
      skipped[tool] = answer['skipped']
      harness.stop(worker)
      continue
    workers.append(worker)
    if tool == 'postscale':
      rows.append(harness.row(tool, 'global', 'first_seconds', [answer['seconds']]))
  for work in ('global', 'bootstrap'):
    answers = harness.turns(workers, repeats, lambda worker: {'work': work})  # noqa: B023
    found = {a['tool']: np.array(a['objectives']) for a in answers}
    count = min(map(len, found.values()))  # a tool that did a share did the first of them
    lowest = np.min([x[:count] for x in found.values()], axis=0)
    for worker in workers:
      mine = [a for a in answers if a['tool'] == worker.tool]
      worst = float(np.max(found[worker.tool][:count] / lowest - 1))
      rows.append(harness.row(worker.tool, work, 'seconds', [a['seconds'] for a in mine]))
      rows.append(harness.row(worker.tool, work, 'excess', [worst]))
  for law in laws:
    harness.say(f'10,000 resamples of {law}')
    answer = harness.ask(workers[0], work='any', law=law)
    rows.append(harness.row('postscale', law, 'seconds_10000', [answer['seconds']]))
  for worker in workers:
    harness.stop(worker)
  return machine, rows, skipped


def main(argv: list[str]) -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks.fit', description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--out', required=True, help='the JSON file to write')
  default = harness.ROOT / '../shared/data/chinchilla/svg_extracted_data.csv'
  parser.add_argument('--table', default=str(default.resolve()), help='the CSV of runs')
  parser.add_argument('--tools', default=','.join(TOOLS), help='by comma; default: all')
  parser.add_argument('--repeats', type=int, default=3, help='turns of each tool; default: 3')
  parser.add_argument(
    '--share', type=float, default=0.1, help='of the work that the other tools do; default: 0.1'
  )
  parser.add_argument(
    '--laws', default=','.join(fit_workers.PLAUSIBLE), help='for seconds_10000, by comma'
  )
  parser.add_argument('--resamples', type=int, default=1000, help='default: 1000')
  args = parser.parse_args(argv)
  tools, laws = ([x for x in text.split(',') if x] for text in (args.tools, args.laws))
  for what, given, known in (('tools', tools, TOOLS), ('laws', laws, fit_workers.PLAUSIBLE)):
    if unknown := set(given) - set(known):
      parser.error(f'--{what}: {", ".join(unknown)} is unknown; there are {", ".join(known)}')
  if not 0 < args.share <= 1:
    parser.error(f'--share={args.share}: more than 0, at most 1')
  found = measure(args.table, tools, args.repeats, args.share, args.resamples, laws)
  harness.write(args.out, *found)
  print(harness.table(found[1], found[2], base='postscale'))
  print(f'wrote {args.out}')


if __name__ == '__main__':
  main(sys.argv[1:])
