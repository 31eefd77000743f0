"""Fits a scaling law to a table, with intervals, what the data do not identify, and a picture.

python -m analysis.fit TABLE.csv --law=chinchilla --columns=N=params,D=tokens,L=loss
    [--drop=top:5:loss] [--loss=huber_log:1e-3] [--bootstrap=1000] [--holdout='params > 1e10']
    [--compare=power,kaplan] [--out=fit.json] [--plot=fit.png]
python -m analysis.fit --law=list

The table is .csv, .parquet or .jsonl. Columns may be computed of others and of one another:
--columns='N=`Model Size`,D=flop/(6*N),L=loss' (arithmetic; log, exp, sqrt, min, max; a name with
spaces in backquotes). A law of your own is a function in a file: --law=mine.py:my_law, as
analysis/laws.py says. Rows are counted from 0, the first below the header.
"""

import importlib.util
import shlex
from pathlib import Path

import pandas as pd

from analysis import columns as tables
from analysis import command, fit, fit_plots
from analysis.errors import BadInput
from analysis.laws import LAWS


def main(argv: list[str]) -> int:
  """0; or 2, with one line on stderr, for bad input."""
  parser = command.parser('fit', __doc__)
  parser.add_argument('table', nargs='?', help='.csv, .parquet or .jsonl')
  parser.add_argument('--law', required=True, help='a name, FILE.py:FUNCTION, or list')
  parser.add_argument('--columns', help="the law's inputs and output: N=params,D=tokens,L=loss")
  parser.add_argument(
    '--loss',
    default='huber_log:1e-3',
    help='huber_log[:delta], huber[:delta], squares_log, squares, binomial; default huber_log:1e-3',
  )
  parser.add_argument(
    '--drop', action='append', default=[],
    help='rows left out: a comparison, top:5:loss or bottom:5:loss; may be repeated',
  )  # fmt: skip
  parser.add_argument('--missing', default='error', help='drop: rows with a missing value')
  parser.add_argument('--holdout', help='rows to predict, not to fit: a comparison')
  parser.add_argument('--fixed', help='parameters that are not fitted: E=1.69,alpha=0.34')
  parser.add_argument('--se', help='a column of standard errors, by which residuals are divided')
  parser.add_argument('--trials', help='for --loss=binomial: a column of how many were drawn')
  parser.add_argument(
    '--bootstrap', type=int, default=1000, help='resamples; default 1000; 0: none'
  )
  parser.add_argument('--resample', default='pairs', help='pairs (default) or residuals')
  parser.add_argument('--clusters', help='a column; rows that share a value are resampled together')
  parser.add_argument('--profile', action='store_true', help='profile intervals beside them')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--compare', help='more laws to fit to the same rows, power,kaplan; --columns is of all'
  )
  parser.add_argument('--out', help='the fit as JSON')
  parser.add_argument('--plot', help='the picture, a .png, .svg or .pdf file')
  line = shlex.join(['python', '-m', 'analysis.fit', *argv])
  return command.run(parser, argv, lambda args: _run(args, line))


def _run(args, line: str) -> None:
  if args.law == 'list':
    return print(laws_table())
  if not args.table or not args.columns:
    raise BadInput('give a table, and --columns=INPUT=COLUMN,…,OUTPUT=COLUMN; --law=list has laws')
  frame = tables.read_table(args.table)
  columns = parse_pairs('--columns', args.columns)
  options = {
    'loss': args.loss, 'bootstrap': args.bootstrap, 'resample': args.resample,
    'clusters': args.clusters, 'profile': args.profile, 'holdout': args.holdout,
    'drop': args.drop or None, 'se': args.se, 'trials': args.trials, 'missing': args.missing,
    'seed': args.seed, 'command': line,
  }  # fmt: skip
  if args.bootstrap < 0:
    raise BadInput(f'--bootstrap={args.bootstrap}: 0 or more')
  if args.fixed:
    options['fixed'] = {
      k: _number('--fixed', k, v) for k, v in parse_pairs('--fixed', args.fixed).items()
    }
  law = fit.named(_law(args.law), columns)
  found = fit.fit(law, frame, columns, **options)
  print(report(found, args.table))
  if args.compare:
    options.pop('fixed', None)
    rivals = fit.compare(
      [_law(name) for name in args.compare.split(',')], frame, columns, **options
    )
    print('\n' + comparison(pd.concat([fit.row(found), rivals], ignore_index=True)))
  if args.out:
    found.to_json(args.out)
    print(args.out)
  if args.plot:
    command.save(fit_plots.fit_figure(found, frame).figure, '--plot', args.plot)
    print(args.plot)


def parse_pairs(what: str, text: str) -> dict:
  """'N=params,D=max(a,b)' -> {'N': 'params', 'D': 'max(a,b)'}; commas in brackets do not part."""
  parts, depth, quoted = [''], 0, False
  for letter in text:
    quoted ^= letter == '`'
    depth += 0 if quoted else (letter == '(') - (letter == ')')
    if letter == ',' and not depth and not quoted:
      parts.append('')
    else:
      parts[-1] += letter
  pairs = {}
  for part in parts:
    key, equals, value = part.partition('=')
    if not (equals and key.strip() and value.strip()) or key.strip() in pairs:
      raise BadInput(f'{what}: {part!r} is not NAME=VALUE, each name once')
    pairs[key.strip()] = value.strip()
  return pairs


def _number(what, key, text):
  try:
    return float(text)
  except ValueError as error:
    raise BadInput(f'{what}: {key}={text} is not a number') from error


def _law(name):
  """A law's name, or the function of FILE.py:FUNCTION."""
  path, colon, function = name.rpartition(':')
  if not colon:
    return name
  spec = importlib.util.spec_from_file_location(Path(path).stem, path)
  if spec is None or not Path(path).exists():
    raise BadInput(f'--law={name}: there is no Python file {path}')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  if not callable(getattr(module, function, None)):
    raise BadInput(f'--law={name}: {path} has no function {function}')
  return getattr(module, function)


def laws_table() -> str:
  """Every law: its name, formula, inputs, output and source."""
  blocks = []
  for law in LAWS.values():
    given = ', '.join(law.inputs)
    params = ', '.join(p.name for p in law.params)
    blocks.append(
      f'{law.name}\n  {law.formula}\n  columns: {given}, {law.output}; parameters: {params}\n'
      f'  {law.source}'
    )
  return '\n'.join(blocks)


def report(found: fit.Fit, source: str = '') -> str:
  """A fit in lines: what was fitted, parameters with intervals, what is not identified, errors."""
  lines = [f'{found.law}: {found.definition.formula}   [{found.definition.source}]']
  about = f'{found.rows} rows fitted'
  about += f', {found.held} held out' if found.held else ''
  about += f', {len(found.dropped)} dropped ({_why(found)})' if found.dropped else ''
  lines.append(
    f'{source}: {about}; loss {found.loss}, in all {found.objective:.7g}; AICc {found.aicc:.2f}'
  )
  n, options = len(found.samples), found.provenance['options']
  of = f' by {options["clusters"]}' if options['clusters'] else ''
  rows = []
  for name, value in found.params.items():
    row = {'parameter': name, 'value': _say(value)}
    if found.intervals:
      fixed = name in options['fixed']
      row[f'95 % bootstrap, {n}{of}'] = 'fixed' if fixed else _span(found.intervals[name])
    if found.profiles:
      row['95 % profile'] = _span(found.profiles.get(name, (value, value)))
    row[''] = '(!)' if name in found.unidentified else ''
    rows.append(row)
  lines += ['', text_table(pd.DataFrame(rows)), '']
  lines += [f'(!) {name} is {why}' for name, why in found.unidentified.items()]
  if found.holdout_error is not None:
    unit = 'log prediction' if '_log' in found.loss else 'prediction'
    lines.append(
      f'held out: RMSE of the {unit} {found.holdout_error:.4g} on {found.held} rows; '
      f'{fit.BASELINE}: {found.baseline_error:.4g}'
    )
  return '\n'.join(lines).rstrip()


def comparison(rows: pd.DataFrame) -> str:
  """The rows of `fit.compare` as text, the best first."""
  rows = rows.assign(delta_aicc=rows['aicc'] - rows['aicc'].min())
  held = rows['holdout_error'].notna().any()
  rows = rows.sort_values('holdout_error' if held else 'aicc')
  shown = pd.DataFrame({'law': rows['law'], 'parameters': rows['parameters'].astype(str)})
  for name in ['objective', 'delta_aicc', *(['holdout_error'] if held else [])]:
    shown[name.replace('_', ' ')] = [f'{x:.4g}' for x in rows[name]]
  shown['not identified'] = rows['unidentified']
  return text_table(shown)


def text_table(frame: pd.DataFrame) -> str:
  """Columns of text, left-aligned, two spaces apart."""
  cells = [[*map(str, frame.columns)], *frame.astype(str).to_numpy().tolist()]
  width = [max(len(row[i]) for row in cells) for i in range(len(cells[0]))]
  line = lambda row: '  '.join(x.ljust(w) for x, w in zip(row, width)).rstrip()
  return '\n'.join(map(line, cells))


def _why(found):
  whys = [why for _, why in found.dropped]
  return '; '.join(f'{whys.count(why)}: {why}' for why in dict.fromkeys(whys))


def _say(value):
  return f'{value:.5g}'


def _span(ends):
  return f'{_say(ends[0])} … {_say(ends[1])}'
