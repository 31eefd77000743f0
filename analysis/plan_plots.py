"""The figure of a plan from a law: its frontier, its best splits, its iso-performance curves."""

from collections.abc import Sequence

import numpy as np

from analysis import plan_words, planning, style, trades
from analysis.errors import BadInput
from analysis.optimum import Problem
from analysis.planning import Choice
from analysis.style import ACCENT, INK, MUTED, Drawing, human

COLOURS = {'N': '#0072b2', 'P': '#56b4e9', 'D': '#009e73', 'C': '#e69f00', 'k': '#cc79a7'}


@style.styled
def plan_figure(problem: Problem, choices: Sequence[Choice]) -> Drawing:
  """What the law predicts of the best split of each budget; the splits; training against serving.

  choices: drawn as diamonds, with the iso-performance curve of each. Solid: within what was
  measured; dashed: extrapolated. Bands: 95 % over the bootstrap samples of the law.
  """
  middle = np.sqrt(choices[0].total * choices[-1].total)
  spread = max(np.sqrt(choices[-1].total / choices[0].total), 1.0) * 30
  span = np.geomspace(middle / spread, middle * spread, 61)
  span = span[span > planning.cheapest(problem) * 1.01]
  line = planning.curve(problem, span)
  isos = [_iso(problem, choice) for choice in choices]
  panels = 3 if any(iso is not None for iso in isos) else 2
  figure, axes = style.new(1, panels, width=1.2 + 3.4 * panels, height=3.7)
  _frontier(axes[0], problem, span, line, choices)
  _splits(axes[1], problem, span, line, choices)
  if panels == 3:
    _isos(axes[2], problem, choices, isos)
  title = f'The frontier by the law, {human(problem.queries)} queries'
  return Drawing('plan', title, figure, '\n'.join(caption(problem, choices)))


def caption(problem: Problem, choices: Sequence[Choice]) -> list[str]:
  """The split of each choice in a sentence, and the exchange rates at the last."""
  said = []
  for choice in choices:
    split = ', '.join(
      f'{human(choice.split[x])} {plan_words.NAMES[x]}' for x in plan_words.varied(problem)
    )
    value = plan_words.value_words(problem, choice.value)
    far = plan_words.beyond_words(problem, choice)
    spent = style.amount(choice.total, problem.unit)
    said.append(f'{spent}: {split}; {problem.what} {value}{f" ({far})" if far else ""}.')
  rates = plan_words.exchanges(problem, choices[-1].split)
  if rates:
    said.append('There ' + '; '.join(plan_words.exchange_words(rate) for rate in rates) + '.')
  return said


def _frontier(axes, problem, span, line, choices):
  for far in (False, True):
    shown = np.where(line['extrapolated'] == far, line['value'], np.nan)
    label = 'extrapolated' if far else 'within the measured ranges'
    axes.plot(span, shown, color=INK, ls='--' if far else '-', lw=1.2 if far else 1.8, label=label)
  if np.isfinite(line['low']).any():
    axes.fill_between(span, line['low'], line['high'], color=INK, alpha=0.12, lw=0, label='95 %')
  for choice in choices:
    axes.plot(choice.total, choice.value, 'D', ms=7, color=ACCENT, mec='white', zorder=4)
  _total_axis(axes, problem, span)
  if not problem.lower_is_better:
    style.percent_axis(axes.yaxis)
  axes.set_ylabel(f'{problem.what}, predicted')
  axes.set_title('best by budget')
  axes.legend(loc='best')


def _splits(axes, problem, span, line, choices):
  names = [x for x in plan_words.varied(problem) if np.nanmax(line[x]) > 0]
  few = span[:: max(len(span) // 10, 1)]
  bands = [_intervals(problem, budget) for budget in few]
  for name in names:
    values = np.where((line[name] > 0) & line['affordable'], line[name], np.nan)
    axes.plot(span, values, color=COLOURS[name], label=f'{name}: {plan_words.NAMES[name]}')
    low, high = np.array([band[name] if band else (np.nan, np.nan) for band in bands]).T
    if np.isfinite(low).any():
      axes.fill_between(few, low, high, color=COLOURS[name], alpha=0.15, lw=0)
    for choice in choices:
      axes.plot(choice.total, choice.split[name], 'D', ms=5, color=COLOURS[name], mec='white')
  _total_axis(axes, problem, span)
  low, high = axes.get_ylim()
  axes.set_yscale('log')
  values = np.concatenate([line[name][line['affordable']] for name in names])
  values = values[values > 0]
  style.log_axis(axes.yaxis, values.min(), values.max())
  axes.set_title('the best split, 95 %')
  axes.legend(loc='best')


def _intervals(problem, budget):
  try:
    return planning.for_budget(problem, budget).intervals
  except BadInput:
    return None


def _iso(problem, choice):
  try:
    return trades.iso_performance(problem, choice.value)
  except BadInput:
    return None


def _isos(axes, problem, choices, isos):
  colours = list(style.ramp(range(len(choices))).values())
  drawn = []
  for choice, iso, colour in zip(choices, isos, colours):
    if iso is None:
      continue
    label = f'{problem.what} = {plan_words.value_words(problem, choice.value)}'
    axes.plot(iso['query'], iso['train'], color=colour, label=label)
    axes.fill_between(iso['query'], iso['low'], iso['high'], color=colour, alpha=0.15, lw=0)
    drawn.append((iso['query'], iso['train']))
    if problem.queries:
      at = choice.serve / problem.queries, choice.train
      axes.plot(*at, 'D', ms=7, color=ACCENT, mec='white', zorder=4)
  query, train = (np.concatenate(x) for x in zip(*drawn))
  shown = problem.unit if problem.unit == 'FLOP' else ''
  style.log_axis(axes.xaxis, query.min(), query.max(), shown)
  axes.set_ylim(train.min() / 2, min(train.max(), train.min() * 1e4) * 2)
  style.log_axis(axes.yaxis, *axes.get_ylim(), shown)
  axes.set_xlabel(f'{problem.unit} of one query')
  axes.set_ylabel(f'{problem.unit} of training')
  axes.set_title('equal performance')
  axes.legend(loc='best')
  if problem.queries:
    axes.annotate(
      f'◆ cheapest for {human(problem.queries)} queries',
      (0.98, 0.02),
      xycoords='axes fraction',
      ha='right',
      va='bottom',
      fontsize=7.5,
      color=MUTED,
    )


def _total_axis(axes, problem, span):
  style.log_axis(axes.xaxis, span[0], span[-1], problem.unit if problem.unit == 'FLOP' else '')
  served = f' + {human(problem.queries)} queries' if problem.queries else ''
  axes.set_xlabel(f'total {problem.unit}: training{served}')
