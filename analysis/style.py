"""One quiet, colour-blind-safe look for every figure, and numbers in human units."""

import base64
import html
import io
import re
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib import colors, ticker
from matplotlib.figure import Figure

INK, MUTED, FAINT = '#1f2933', '#6b7785', '#d9dee4'
STAGE_COLOURS = {  # Okabe and Ito's, told apart by all kinds of colour vision
  'pretrain': '#9aa5b1',
  'sft': '#0072b2',
  'rl': '#e69f00',
  'sampling': '#009e73',
  'sample': '#009e73',
}
STRATEGY_NAMES = {  # the rest say themselves
  'oracle': 'oracle: pass@k',
  'majority': 'majority vote',
  'logprob': 'best by log-prob',
  'episodes': 'episodes (hear verdicts)',
}
STAGE_NAMES = {'pretrain': 'pretraining', 'sft': 'SFT', 'rl': 'RL'}  # the rest are words
KIND_COLOURS = {
  'forward': '#0072b2',
  'backward': '#56b4e9',
  'prefill': '#e69f00',
  'decode': '#d55e00',
  'reference': '#009e73',
  'reward_model': '#cc79a7',
  'verifier': '#9aa5b1',
}
ACCENT = '#d55e00'
STYLE = {
  'figure.dpi': 100,
  'figure.facecolor': 'white',
  'font.family': 'DejaVu Sans',
  'font.size': 9,
  'text.color': INK,
  'axes.edgecolor': MUTED,
  'axes.labelcolor': INK,
  'axes.linewidth': 0.8,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.titlesize': 9.5,
  'axes.titleweight': 'bold',
  'axes.titlelocation': 'left',
  'axes.titlepad': 8,
  'axes.grid': True,
  'axes.axisbelow': True,
  'grid.color': FAINT,
  'grid.linewidth': 0.6,
  'xtick.color': MUTED,
  'ytick.color': MUTED,
  'xtick.labelcolor': INK,
  'ytick.labelcolor': INK,
  'xtick.major.size': 3,
  'ytick.major.size': 3,
  'xtick.minor.size': 0,
  'ytick.minor.size': 0,
  'lines.linewidth': 1.6,
  'lines.markersize': 5,
  'errorbar.capsize': 0,
  'legend.frameon': False,
  'legend.fontsize': 8,
}


def text(words) -> str:
  """Words for a page: escaped, and a number kept on one line with its unit."""
  words = re.sub(r'(?<=[\d.]) (?=(%|points|[kMGTPEZY]?FLOP)(?!\w))', '\u00a0', str(words))
  return html.escape(words)


WIDTH = 860  # pixels of the text of a page: no figure is wider there
styled = matplotlib.rc_context(STYLE)  # a decorator: the function draws in this style


class Drawing(NamedTuple):
  """A figure with its name, its title and what it shows, in words computed from the numbers."""

  name: str
  title: str
  figure: Figure
  caption: str

  def _repr_html_(self) -> str:
    """The figure with its caption, for a page or a notebook; the image is inline."""
    image = io.BytesIO()
    self.figure.savefig(image, format='png', dpi=170, metadata={'Software': None})
    data = base64.b64encode(image.getvalue()).decode()
    title, width = html.escape(self.title), self.figure.get_figwidth()
    return (
      f'<figure id="{self.name}"><h3>{title}</h3><div class="wide">'
      f'<img alt="{title}" style="max-width: 900px; min-width: {min(75 * width, WIDTH):.0f}px" '
      f'src="data:image/png;base64,{data}"></div>'
      f'<figcaption style="white-space: pre-line">{text(self.caption)}</figcaption></figure>'
    )


def new(rows=1, columns=1, width=7.4, height=3.6, **kwargs):
  """(figure, axes), without pyplot's global state."""
  figure = Figure(figsize=(width, height), layout='constrained')
  return figure, figure.subplots(rows, columns, **kwargs)


def human(value: float, unit: str = '', digits: int = 2) -> str:
  """1e6 -> '1M', 25000 -> '25k', 1e9 -> '1B'; with a unit, as 'FLOP', 1e9 -> '1 GFLOP'."""
  if value == 0 or not np.isfinite(value):
    return f'{value:g}{" " + unit if unit else ""}'
  large = [(1e24, 'Y'), (1e21, 'Z'), (1e18, 'E'), (1e15, 'P'), (1e12, 'T'), (1e9, 'G')]
  steps = (large if unit else [(1e12, 'T'), (1e9, 'B')]) + [(1e6, 'M'), (1e3, 'k'), (1, '')]
  rounded = float(f'{value:.{digits}g}')
  size, letter = next(((s, l) for s, l in steps if abs(rounded) >= s), (1, ''))
  number = f'{rounded / size:.{max(digits, 3)}g}'
  return f'{number} {letter}{unit}' if unit else f'{number}{letter}'


def flops(value: float) -> str:
  """3.2e12 -> '3.2 TFLOP'."""
  return human(value, 'FLOP')


def amount(value: float, unit: str) -> str:
  """A cost in the unit of a plan: '3.2 TFLOP', '45 device-s', '12 device-h', '$1.5M'."""
  if unit == 'device-s':
    return f'{human(value / 3600)} device-h' if value >= 3600 else f'{human(value)} device-s'
  return f'${human(value)}' if unit == '$' else human(value, unit)


def stage_name(stage: str) -> str:
  """'sft' -> 'SFT', for sentences and legends."""
  return STAGE_NAMES.get(stage, stage)


def strategy_name(strategy: str, scorer: str = '') -> str:
  """'best_of_outcome', '75k' -> 'best of outcome (75k)'; 'majority' -> 'majority vote'."""
  name = STRATEGY_NAMES.get(strategy, strategy.replace('_', ' '))
  return f'{name} ({scorer})' if scorer else name


def counted(number: int, noun: str) -> str:
  """1, 'cell' -> '1 cell'; 2 -> '2 cells'."""
  return f'{number} {noun}' if number == 1 else f'{number} {noun}s'


def percent(value: float, digits: int = 1) -> str:
  return f'{100 * value:.{digits}f} %'


def points(value: float, digits: int = 1) -> str:
  """A difference of two shares in percentage points, with its sign."""
  return f'{100 * value:+.{digits}f} points'.replace('-', '−')


def signed(value: float, digits: int = 1) -> str:
  return f'{100 * value:+.{digits}f}'.replace('-', '−')


def log_axis(axis, low: float, high: float, unit: str = '', ticks=None, base: int = 10) -> None:
  """A log axis over low..high in human units, ticked at `ticks`, or about five times."""
  getattr(axis.axes, f'set_{axis.axis_name}scale')('log', base=base)
  spread = np.log10(high / low)
  if ticks is not None:
    axis.set_major_locator(ticker.FixedLocator(list(ticks)))
  else:
    subs = (1, 2, 5) if spread < 1.6 else (1, 3) if spread < 2.6 else (1,)
    axis.set_major_locator(ticker.LogLocator(base=10, subs=subs))
  axis.set_major_formatter(
    ticker.FuncFormatter(lambda value, _: human(value, unit).removesuffix(unit).replace(' ', ''))
  )
  axis.set_minor_locator(ticker.NullLocator())


def few(values, most: int = 7) -> list:
  """The distinct values, or every second (third, …) of them where they are more than `most`."""
  values = sorted(set(values))
  return values[:: -(-len(values) // most)]


def percent_axis(axis) -> None:
  """Labels shares in percent, with as many decimals as the ticks need."""
  axis.set_major_formatter(ticker.FuncFormatter(lambda x, _: f'{round(100 * x, 6):g} %'))


def ramp(items) -> dict:
  """item -> colour, dark to light in order: for sizes and budgets."""
  items = list(items)
  places = np.linspace(0.06, 0.74, len(items)) if len(items) > 1 else [0.35]
  return {item: colors.to_hex(matplotlib.colormaps['viridis'](p)) for item, p in zip(items, places)}


def label_ends(axes, labels, x, gap: float = 0.055, offset: int = 8) -> None:
  """Writes (y, text, colour) at the right of x, pushed apart where they would overlap."""
  if not labels:
    return
  low, high = axes.get_ylim()
  logarithmic = axes.get_yscale() == 'log'
  place = np.log if logarithmic else (lambda v: v)
  inverse = np.exp if logarithmic else (lambda v: v)
  step = gap * (place(high) - place(low))
  labels = sorted(labels)
  ys = [place(y) for y, _, _ in labels]
  for i in range(1, len(ys)):
    ys[i] = max(ys[i], ys[i - 1] + step)
  shift = (np.mean(ys) - np.mean([place(y) for y, _, _ in labels])) if len(ys) > 1 else 0
  for y, (_, text, colour) in zip(ys, labels):
    axes.annotate(
      text,
      (x, inverse(y - shift)),
      xytext=(offset, 0),
      textcoords='offset points',
      va='center',
      color=colour,
      fontsize=8,
      annotation_clip=False,
    )
