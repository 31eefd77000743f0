"""What verifiers get wrong, and what that costs best-of-n, as one figure.

python -m analysis.audits WORKDIR [--out=audits.png]

draws WORKDIR/audits.parquet, which `python -m scaling.stages.audit WORKDIR` wrote.
"""

import sys
from pathlib import Path

import pandas as pd

from analysis import command, style
from analysis.errors import BadInput
from analysis.style import INK, MUTED, Drawing, percent

RATES = {'false_positive': 'false positives', 'false_negative': 'false negatives'}
COLOURS = ('#0072b2', '#d55e00', '#009e73', '#aa4499', '#e69f00', '#56b4e9')


def load(workdir: Path) -> pd.DataFrame:
  """The audits of a workdir, a row an audit and k. BadInput where there are none to read."""
  path = Path(workdir) / 'audits.parquet'
  if not path.exists():
    raise BadInput(f'{path}: not there; run python -m scaling.stages.audit {workdir}')
  try:
    return pd.read_parquet(path)
  except (OSError, ValueError) as error:
    raise BadInput(
      f'{path}: not readable ({str(error).splitlines()[0]}); '
      f'run python -m scaling.stages.audit {workdir} again'
    ) from None


@style.styled
def picture(table: pd.DataFrame) -> Drawing:
  """Left: rates with intervals. Right: best-of-k as measured, by the rates, and its ceiling."""
  figure, (left, right) = style.new(1, 2, width=9.2, height=3.8)
  words, groups = [], list(table.groupby('what', sort=False))
  for place, (what, rows) in enumerate(groups):
    colour, one = COLOURS[place % len(COLOURS)], rows.iloc[0]
    for base, name in enumerate(RATES):
      at = base + (place - (len(groups) - 1) / 2) * 0.16
      bars = [[one[name] - one[f'{name}_low']], [one[f'{name}_high'] - one[name]]]
      left.errorbar([at], [one[name]], bars, fmt='o', color=colour, lw=1.2)
    right.plot(rows['k'], rows['measured'], 'o-', color=colour, label=what)
    right.plot(rows['k'], rows['expected'], ':', color=colour)
    right.axhline(one['ceiling'], color=colour, lw=0.8, ls='--', alpha=0.7)
    words.append(
      f'{what}: balanced accuracy {one["accuracy"]:.3f} on {one["samples"]:.0f} samples of '
      f'{one["problems"]:.0f} problems, {one["within"]:.3f} between samples of one problem, a '
      f'ceiling of {percent(one["ceiling"])}'
    )
  left.set_xticks(range(len(RATES)), RATES.values())
  left.set_xlim(-0.6, len(RATES) - 0.4)
  left.set_ylim(bottom=0)
  left.set_title('Mistakes on the task’s own samples, 95 %')
  style.percent_axis(left.yaxis)
  style.log_axis(right.xaxis, 1, max(2, table['k'].max()), ticks=sorted(set(table['k'])))
  style.percent_axis(right.yaxis)
  right.set_xlabel('k')
  right.set_title('Best of k by the verdict')
  right.plot([], [], ':', color=INK, label='by its rates alone')
  right.plot([], [], '--', color=MUTED, label='ceiling of its rates')
  right.legend(loc='best', fontsize=7)
  missed = (table['measured'] - table['expected']).abs().max()
  caption = '. '.join(words) + (
    f'. Measured and by the rates alone differ by at most {100 * missed:.1f} points: mistakes that '
    'come back within a problem are not independent.'
  )
  return Drawing('audits', 'What verifiers get wrong', figure, caption)


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, where there is nothing to draw."""
  its = command.parser('audits', __doc__)
  its.add_argument('workdir', type=Path)
  its.add_argument('--out', default='audits.png', help='a PNG file')
  return command.run(its, argv, _draw)


def _draw(given) -> None:
  drawing = picture(load(given.workdir))
  command.save(drawing.figure, '--out', given.out, dpi=170)
  print(f'{given.out}: {drawing.caption}')


if __name__ == '__main__':
  sys.exit(main())
