"""The frontier of a study, or of a law fitted to a table: what a budget buys, what a target costs.

python -m analysis.frontier WORKDIR [--study=NAME] [--queries=1e5] [--budget=1e12,1e13]
    [--target=0.3] [--pretraining=sunk|counted] [--rates=…] [--out=frontier.png]
python -m analysis.frontier fit.json [--queries=1e9 --prompt=512 --response=256]
    [--budget=1e22] [--target=2.1] [--pretrained=…] [--rates=…] [--out=plan.png]
    [--inputs=… --table=runs.csv --columns=N=…,D=…]

Of a study: splits measured, chosen on one half of the problems and scored on the other, and beside
them what the law of majority@k would choose. Of a fit (python -m analysis.fit … --out=fit.json):
the law's optimum, training counted as 6 N D (6 N (P + D) where the law has tokens of pretraining,
P) and a query as 2 N FLOPs a token. Intervals are 95 %, from the law's bootstrap. Costs are FLOPs,
or with --rates seconds of a device, or with a price money:
--rates=train=4e14,prefill=3e14,decode=2e13,price=2.5 (FLOP/s; price of a device-hour).
"""

import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import (
  columns,
  command,
  expressions,
  fit,
  frontier,
  frontier_plots,
  frontier_words,
  plan_plots,
  plan_words,
  planning,
  readings,
  tables,
)
from analysis.errors import BadInput
from analysis.fit_command import parse_pairs, text_table
from analysis.interpret import interpret
from analysis.optimum import VARIABLES
from analysis.style import amount, human, percent


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, for bad input."""
  parser = command.parser('frontier', __doc__)
  parser.add_argument('source', metavar='WORKDIR|fit.json')
  parser.add_argument('--queries', help='to be served; a study: as the report chooses; a fit: 0')
  parser.add_argument('--budget', help='one or several, comma-separated, in FLOPs or as --rates')
  parser.add_argument('--target', help='a share of problems, or a loss: the least that reaches it')
  parser.add_argument('--rates', help='train=…,prefill=…,decode=… in FLOP/s [,price=… an hour]')
  parser.add_argument('--out', help='the picture, a PNG file')
  study = parser.add_argument_group('of a study')
  study.add_argument('--study', help='its name; the newest of the workdir if left out')
  study.add_argument('--pretraining', default='sunk', help='sunk (default: free) or counted')
  law = parser.add_argument_group('of a fit')
  law.add_argument('--table', help='that was fitted, where the law has other inputs')
  law.add_argument('--columns', help='N=…,D=… of the table, where the law has other inputs')
  law.add_argument('--inputs', help="the law's other inputs: C=6*N*D,M=D/N, or a number: U=1e9")
  law.add_argument('--prompt', help='tokens of a query')
  law.add_argument('--response', help='tokens of a sample')
  law.add_argument('--pretrained', help='tokens of pretraining counted, of a law without P')
  return command.run(parser, argv, _run)


def _run(args) -> None:
  rates = plan_words.parse_rates(args.rates) if args.rates else None
  of = _of_study if Path(args.source).is_dir() else _of_fit
  drawing = of(args, _asked(args), rates)
  if args.out:
    command.save(drawing.figure, '--out', args.out, dpi=130)
    print(args.out)


class Asked(NamedTuple):
  """The numbers of the command line."""

  budgets: list
  targets: list
  queries: float | None
  prompt: float
  response: float
  pretrained: float


def _asked(args) -> Asked:
  budgets, targets = numbers('--budget', args.budget), numbers('--target', args.target)
  names = ('prompt', 'response', 'pretrained')
  tokens = (number(f'--{name}', getattr(args, name), 0.0) for name in names)
  return Asked(sorted(budgets), targets, number('--queries', args.queries), *tokens)


def number(option: str, text: str | None, otherwise: float | None = None) -> float | None:
  """The one number of an option, see `numbers`; `otherwise` where it was not given."""
  values = numbers(option, text)
  if len(values) > 1:
    raise BadInput(f'{option}={text}: one number, not {len(values)}')
  return values[0] if values else otherwise


def numbers(option: str, text: str | None) -> list[float]:
  """The numbers of an option, comma-separated. BadInput: one is not finite, or negative."""
  try:
    values = [float(part) for part in text.split(',')] if text else []
  except ValueError:
    raise BadInput(f'{option}={text}: not a number, nor several with commas') from None
  if any(not np.isfinite(x) or x < 0 for x in values):
    raise BadInput(f'{option}={text}: must be finite and not negative')
  return values


def _of_fit(args, asked, rates):
  """Prints the plan of a fit; its figure."""
  found = fit.read(args.source)
  inputs = _inputs(args.inputs)
  ranges = _ranges(args, found, inputs)
  problem = planning.of_fit(
    found, ranges, asked.queries or 0.0, asked.prompt, asked.response,
    pretrained=asked.pretrained, inputs=inputs, rates=rates,
  )  # fmt: skip
  budgets = asked.budgets
  if not budgets and not asked.targets:
    top = 6 * ranges['N'][1] * (ranges['D'][1] + ranges.get('P', (0, 0))[1])
    budgets = [planning.spend(rates, train=top * x) for x in (0.1, 1, 10)]
  words = [amount(budget, problem.unit) for budget in budgets]
  words += [f'{problem.what} = {plan_words.value_words(problem, x)}' for x in asked.targets]
  choices = [planning.for_budget(problem, budget) for budget in budgets]
  choices += [planning.for_target(problem, target) for target in asked.targets]
  law = found.definition
  print(f'{law.name}: {law.formula}; {found.rows} rows, {len(found.samples)} bootstrap samples')
  measured = ', '.join(f'{x} {human(low)} to {human(high)}' for x, (low, high) in ranges.items())
  queries = f'{human(problem.queries)} queries of {asked.prompt:g} + {asked.response:g} tokens'
  print(f'measured: {measured}; {queries}\n')
  print(text_table(plan_words.split_table(problem, words, choices)))
  for name, why in found.unidentified.items():
    print(f'{name}: {why}')
  _print_exchanges(problem, choices[-1].split)
  choices = sorted(choices, key=lambda choice: choice.total)
  return plan_plots.plan_figure(problem, choices) if args.out else None


def _inputs(text) -> dict:
  """'C=6*N*D,U=1e9' -> functions of N, P, D, C and k."""
  found = {}
  for name, formula in parse_pairs('--inputs', text).items() if text else ():
    unknown = set(expressions.names(formula)) - set(VARIABLES)
    if unknown:
      names = ', '.join(VARIABLES)
      raise BadInput(f'--inputs: {formula!r}: {min(unknown)!r} is none of {names}')
    found[name] = functools.partial(_evaluate, formula)
  return found


def _evaluate(formula, *where):
  given = dict(zip(VARIABLES, np.broadcast_arrays(*where), strict=True))
  flat = expressions.evaluate(formula, lambda name: given[name].ravel())
  return flat.reshape(given['N'].shape) if flat.ndim else flat


def _ranges(args, found, inputs):
  """Variable -> (low, high) of the rows fitted; of a table's columns where it is given."""
  ranges = {planning.ALIASES.get(x, x): r for x, r in found.ranges.items()}
  ranges = {x: r for x, r in ranges.items() if x in VARIABLES and x not in inputs}
  if bool(args.columns) != bool(args.table):
    raise BadInput('--columns names columns of --table=…: give both, or neither')
  known = parse_pairs('--columns', args.columns) if args.columns else {}
  table = columns.read_table(args.table) if args.table else None
  for name, column in known.items():
    values = columns.numbers(table, column, known, positive=True)
    ranges[name] = float(values.min()), float(values.max())
  for name in ('N', 'D'):
    if name not in ranges:
      raise BadInput(
        f'{found.law} has no input {name}; say where it is: --table=… --columns={name}=…'
      )
  return ranges


def _of_study(args, asked, rates):
  """Prints the frontier of a study, measured and by its law; the figure."""
  reading = interpret(tables.read(args.source, args.study))
  if reading.quality is None:
    raise BadInput((*reading.missing, 'a study of a hosted model: its FLOPs are not known')[0])
  queries = (
    asked.queries if asked.queries is not None else frontier.default_queries(reading.quality)
  )
  measured = frontier.measured(reading.deployable, queries, args.pretraining, rates)
  say = lambda x: amount(x, measured.unit)
  budgets = asked.budgets or ([] if asked.targets else frontier.default_budgets(measured.table))
  n = int(measured.table['problems'].iloc[0])
  print(f'{reading.study.name}: {len(measured.table)} splits measured on {n} problems; ', end='')
  print(f'{human(queries)} queries, pretraining {args.pretraining}\n')
  problem = None
  if reading.majority is not None:
    problem = frontier.problem(reading.majority, reading.quality, queries, args.pretraining, rates)
  if budgets:
    best = frontier.best_at(measured, budgets)
    print('measured: chosen on half of the problems, scored on the rest')
    print(text_table(_measured_table(best, say, readings.several_runs(measured.table))))
    for line in frontier_words.scorer(best):
      print(line)
  for target in asked.targets:
    print(f'\nmeasured, for {percent(target)}: {_cheapest(measured, target)}')
  if problem is None:
    print('\n' + next((x for x in reading.missing if 'joint' in x), 'no law of majority@k'))
  else:
    _print_law(problem, budgets, asked.targets)
  if not args.out:
    return None
  return frontier_plots.frontier_figure(reading, queries, budgets or None, args.pretraining, rates)


def _measured_table(best, say, runs):
  rows = []
  for _, row in best.iterrows():
    there = row['affordable'] and row['solves']
    score = [percent(row[x]) for x in ('quality', 'low', 'high')] if there else ['', '', '']
    rows.append(
      {
        'budget': say(row['budget']),
        'split': frontier_words.split_words(row, runs=runs),
        'solved': f'{score[0]} ({score[1]} to {score[2]})' if there else '',
        'total': say(row['total']) if there else '',
        'sampling': percent(row['share_sampling'], 0) if there else '',
      }
    )
  return pd.DataFrame(rows)


def _cheapest(measured, target):
  rows = measured.table[measured.table['quality'] >= target]
  if rows.empty:
    return f'no split reaches {percent(target)}'
  row = rows.iloc[0].to_dict() | {'affordable': 1, 'solves': True}
  split = frontier_words.split_words(row, runs=readings.several_runs(measured.table))
  low, high = percent(row['quality_low']), percent(row['quality_high'])
  said = f'{amount(row["total"], measured.unit)}, {split}: {percent(row["quality"])} '
  said += f'({low} to {high}; in sample)'
  return said + (f'. {frontier_words.SCORER}' if row['scorer_name'] else '')


def _print_law(problem, budgets, targets):
  """The law's choices, within what was measured and beyond; its exchange rates at the last."""
  wanted = [(planning.for_budget, x, amount(x, problem.unit)) for x in budgets]
  wanted += [(planning.for_target, x, percent(x)) for x in targets]
  middle = None
  for inside in (True, False):
    where = 'within the measured ranges' if inside else f'up to {problem.reach:g}× beyond them'
    words, choices = [], []
    for ask, number, said in wanted:
      try:
        choices.append(ask(problem, number, inside))
        words.append(said)
      except BadInput as error:
        print(f'\nby the law, {where}, for {said}: {error}')
    if choices:
      print(f'\nby the law of majority@k, {where}')
      print(text_table(plan_words.split_table(problem, words, choices)))
      middle = middle or choices[len(choices) // 2].split
  if middle:
    _print_exchanges(problem, middle)


def _print_exchanges(problem, at):
  rates = plan_words.exchanges(problem, at)
  if rates:
    split = ', '.join(f'{x} = {human(v)}' for x, v in at.items() if v)
    print(f'\nexchange rates at {split}:')
    for rate in rates:
      print(f'  {plan_words.exchange_words(rate)}')
