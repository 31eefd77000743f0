"""How the best size grows with compute, read off runs, without a law of the loss (2203.15556).

python -m analysis.approaches TABLE.csv '--columns=C=flop,N=params,L=loss'
    [--approach=isoflop|envelope] [--budget=1e23,1e24] [--plot=growth.png]

isoflop (approach 2): a row a finished run; runs of about the same C are a budget, and a parabola in
log N goes through each. envelope (approach 1): rows are points of training curves, and --columns
has run=… too. Approach 3 is python -m analysis.fit --law=chinchilla. Columns may be computed of
others, as there: C=6*params*tokens.
"""

import numpy as np
import pandas as pd

from analysis import approaches, command, style
from analysis import columns as tables
from analysis.errors import BadInput
from analysis.fit_command import parse_pairs, text_table
from analysis.style import ACCENT, INK, MUTED, counted, flops, human

APPROACHES = {'isoflop': approaches.isoflop, 'envelope': approaches.envelope}
ROWS = 16  # of the table of optima that are printed, at the most


def main(argv: list[str]) -> int:
  """0; or 2, with one line on stderr, for bad input."""
  parser = command.parser('approaches', __doc__)
  parser.add_argument('table', help='.csv, .parquet or .jsonl')
  parser.add_argument(
    '--columns', required=True, help='C=flop,N=params,L=loss, and run=… of curves'
  )
  parser.add_argument('--approach', default='isoflop', choices=APPROACHES, help='default: isoflop')
  parser.add_argument('--budget', help='FLOPs, one or several by comma: the best size there')
  parser.add_argument('--bootstrap', type=int, default=500, help='resamples; default 500; 0: none')
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--plot', help='the picture, a .png, .svg or .pdf file')
  return command.run(parser, argv, _run)


def _run(args) -> None:
  frame, columns = tables.read_table(args.table), parse_pairs('--columns', args.columns)
  growth = APPROACHES[args.approach](frame, columns, bootstrap=args.bootstrap, seed=args.seed)
  print(words(growth, args.approach, args.table))
  if args.budget:
    print('\n' + plan(growth, budgets(args.budget)))
  if args.plot:
    drawing = growth_figure(growth, args.approach, frame, columns)
    command.save(drawing.figure, '--plot', args.plot)
    print(args.plot)


def budgets(text: str) -> np.ndarray:
  """'1e23,1e24' -> [1e23, 1e24]; BadInput for what is no positive number."""
  try:
    found = np.array([float(part) for part in text.split(',')])
  except ValueError as error:
    raise BadInput(f'--budget={text}: numbers of FLOPs, by comma') from error
  if not (np.isfinite(found) & (found > 0)).all():
    raise BadInput(f'--budget={text}: each must be above 0')
  return found


def words(growth: approaches.Growth, approach: str, name: str) -> str:
  """The exponents with their intervals, the optima, and what was left out."""
  end = lambda pair: '' if np.isnan(pair[0]) else f' (95 % {pair[0]:.3f} to {pair[1]:.3f})'
  lines = [
    f'{approach} on {name}: N_opt ~ C^a, a = {growth.a:.3f}{end(growth.a_interval)}; '
    f'D_opt ~ C^b, b = {growth.b:.3f}{end(growth.b_interval)}',
    '',
  ]
  some = growth.optima.iloc[np.unique(np.linspace(0, len(growth.optima) - 1, ROWS).astype(int))]
  shown = {
    'budget': [flops(c) for c in some['C']],
    'parameters': [human(n) for n in some['N']],
    'tokens': [human(d) for d in some['D']],
    'tokens a parameter': [human(d / n) for d, n in zip(some['D'], some['N'])],
    'loss': [f'{loss:.4g}' for loss in some['L']],
  }
  lines.append(text_table(pd.DataFrame(shown)))
  if len(some) < len(growth.optima):
    lines.append(f'({len(some)} of {len(growth.optima)} rows)')
  whys = [why for _, why in growth.left_out]
  lines += [f'left out: {counted(whys.count(why), "budget")}: {why}' for why in sorted(set(whys))]
  return '\n'.join(lines)


def plan(growth: approaches.Growth, C: np.ndarray) -> str:
  """The best size and tokens at budgets, by the line through the optima; how far beyond them."""
  least, most = growth.optima['C'].min(), growth.optima['C'].max()

  def beyond(c):
    ratio = max(c / most, least / c)
    return f'{ratio:.3g}x beyond the optima' if ratio > 1 + 1e-9 else ''

  N, low, high = approaches.optimum(growth, C)
  interval = lambda a, b: '' if np.isnan(a) else f'{human(a)} to {human(b)}'
  return text_table(
    pd.DataFrame(
      {
        'budget': [flops(c) for c in C],
        'parameters': [human(n) for n in N],
        '95 %': [interval(a, b) for a, b in zip(low, high)],
        'tokens': [human(d) for d in C / 6 / N],
        'extrapolated': [beyond(c) for c in C],
      }
    )
  )


@style.styled
def growth_figure(growth: approaches.Growth, approach: str, table, columns: dict) -> style.Drawing:
  """Left: the runs, loss against size (isoflop) or against FLOPs (envelope), and the optima; right:
  the best size against compute, with the line through the optima and its 95 % band."""
  read = lambda name: tables.numbers(pd.DataFrame(table), columns[name], columns, True)
  C, N, L = (read(name) for name in 'CNL')
  flat = approach == 'isoflop'
  x, across, unit = (N, 'N', '') if flat else (C, 'C', 'FLOP')
  mark = {'ls': '', 'marker': 'D', 'ms': 5} if flat else {'lw': 2}
  figure, (left, right) = style.new(1, 2, width=9.4, height=3.8)
  left.scatter(x, L, s=9, c=np.log(C if flat else N), cmap='viridis', alpha=0.7, lw=0)
  left.plot(growth.optima[across], growth.optima['L'], color=ACCENT, **mark)
  style.log_axis(left.xaxis, x.min(), x.max(), unit)
  left.set(xlabel='parameters' if flat else 'training FLOP', ylabel='loss')
  left.set_title(f'Runs, coloured by {"budget" if flat else "size"}; the optima')
  span = growth.optima['C']
  grid = np.geomspace(span.min() / 1.5, span.max() * 1.5, 60)
  middle, low, high = approaches.optimum(growth, grid)
  if len(growth.lines):
    right.fill_between(grid, low, high, color=INK, alpha=0.12, lw=0)
  right.plot(grid, middle, color=INK)
  right.plot(span, growth.optima['N'], color=ACCENT, **mark)
  style.log_axis(right.xaxis, grid[0], grid[-1], 'FLOP')
  style.log_axis(right.yaxis, middle.min(), middle.max())
  right.set(xlabel='training FLOP', ylabel='parameters')
  right.set_title('The best size')
  found = counted(len(growth.optima), 'optimum').replace('optimums', 'optima')
  caption = f'N_opt grows as C^{growth.a:.2f}'
  if len(growth.lines):
    caption += ' (95 % {:.2f} to {:.2f})'.format(*growth.a_interval)
  caption += f', by {found} of {counted(len(C), "row")}; the band is over resampled runs.'
  figure.suptitle(caption, fontsize=8.5, color=MUTED, x=0.01, ha='left')
  return style.Drawing(f'growth_{approach}', 'How the best size grows', figure, caption)
