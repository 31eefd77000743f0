"""The figures of test-time compute. `plots` has the others."""

import numpy as np
from matplotlib import ticker

from analysis import findings, readings, style, test_time
from analysis.interpret import Reading
from analysis.style import ACCENT, INK, MUTED, Drawing, strategy_name

PANELS = 3  # models, the largest of them
FIXED = {'majority': '#0072b2', 'logprob': '#9aa5b1'}
COLOURS = ['#d55e00', '#009e73', '#aa4499', '#56b4e9', '#882255', '#999933', '#44aa99', '#332288']
MARKERS = 'Dos^vP<>pX'


def _look(arms) -> dict:
  """(strategy, scorer) -> colour, marker and line: a colour for each scorer (and aggregate of step
  scores) and each search; dotted where its scores weigh votes instead of ranking."""
  look, given = {}, {}
  for strategy, scorer in arms:
    base = strategy.removeprefix('weighted_').removeprefix('best_of_'), scorer
    place = given.setdefault(base, len(given))
    colour = FIXED.get(strategy, COLOURS[place % len(COLOURS)])
    line = {'color': colour, 'marker': MARKERS[place % len(MARKERS)]}
    look[strategy, scorer] = line | {'ls': ':' if strategy.startswith('weighted_') else '-'}
  return look


@style.styled
def strategies_figure(reading: Reading) -> Drawing | None:
  """Quality of every strategy against the FLOPs of a query, one panel a model."""
  if reading.strategies.empty:
    return None
  table = test_time.richest(reading.strategies)
  sizes = table.drop_duplicates('model').sort_values('params_non_embedding')['model'][-PANELS:]
  table = table[table['model'].isin(sizes)]
  pairs = table[['strategy', 'scorer_name']].drop_duplicates().itertuples(index=False, name=None)
  first = ['majority', 'logprob']
  rank = lambda arm: (first.index(arm[0]) if arm[0] in first else 2, arm)
  arms = sorted((arm for arm in pairs if arm[0] != 'oracle'), key=rank)
  look, handles = _look(arms), {}
  several = readings.several_runs(reading.coverage)
  figure, panels = style.new(
    1, len(sizes), width=3.6 + 3.0 * len(sizes), height=4.3, sharey=True, squeeze=False
  )
  top = 0.0
  for axes, model in zip(panels[0], sizes):
    rows = table[table['model'] == model]
    for arm in [('oracle', ''), *arms]:
      points = rows[(rows['strategy'] == arm[0]) & (rows['scorer_name'] == arm[1])]
      points = points.sort_values('flops')
      if points.empty:
        continue
      x, y, label = points['flops'], points['value'], strategy_name(*arm)
      if arm[0] == 'oracle':
        label = 'oracle, pass@k: the upper bound'
        handles[label] = axes.plot(x, y, color=MUTED, lw=1.2, ls='--')[0]
        continue
      shade = look[arm]
      bars = np.maximum([y - points['low'], points['high'] - y], 0)
      axes.errorbar(x, y, bars, ls='none', color=shade['color'], lw=0.7, alpha=0.45, zorder=2)
      handles[label] = axes.plot(
        x, y, ms=4.5, lw=1.3, markeredgecolor='white', markeredgewidth=0.6, zorder=3, **shade
      )[0]
      top = max(top, points['high'].max())
    style.log_axis(axes.xaxis, rows['flops'].min(), rows['flops'].max(), 'FLOP')
    one = rows.iloc[0]
    axes.set_title(f'{model}, {style.human(one["sft_tokens"])} SFT tokens{_updates(one, several)}')
    axes.set_xlabel('model FLOPs of a query')
    if one['seeds'] > 1:
      axes.set_title(axes.get_title(loc='left') + f', {one["seeds"]:.0f} seeds')
  style.percent_axis(panels[0][0].yaxis)
  oracle = table.loc[table['strategy'] == 'oracle', 'value'].max()
  panels[0][0].set_ylim(0, min(1.02, 1.06 * max(np.nanmax([top, oracle]), 0.02)))
  panels[0][0].set_ylabel('share of problems solved')
  figure.suptitle(
    f'n = {int(table["problems"].max())} problems; bars: 95 %, problems resampled'
    f'{" (and seeds)" if (table["seeds"] > 1).any() else ""}',
    fontsize=8.5, color=MUTED, x=0.01, ha='left',
  )  # fmt: skip
  figure.legend(
    handles.values(), handles.keys(), loc='outside lower left', ncols=min(2 + len(sizes), 4)
  )
  caption = findings.strategies(reading) or ['Each strategy at each k, against what a query takes.']
  title = 'Test-time strategies: quality against FLOPs of a query'
  return Drawing('strategies', title, figure, ' '.join(caption))


def _updates(row, several: bool) -> str:
  if not row['rl_updates']:
    return ''
  return f', {row["rl_updates"]:.0f} RL updates' + (f' of {row["rl_algorithm"]}' if several else '')


@style.styled
def compute_optimal_figure(reading: Reading) -> Drawing | None:
  """Compute-optimal test time beside one strategy for all; the gains; what each bin would get."""
  found = reading.optimal
  if found is None or found.table.dropna(subset=['quality']).empty:
    return None
  table = found.table.dropna(subset=['quality'])
  figure, (left, middle, right) = style.new(
    1, 3, width=10.6, height=3.9, gridspec_kw={'width_ratios': [1.15, 1.05, 1.25]}
  )
  lines = {
    'quality': ('by difficulty bin', ACCENT, 'o-'),
    'uniform': ('best single strategy and k', INK, 's-'),
    'best_of_n': ('best-of-n', '#cc79a7', 'D--'),
    'majority': ('majority vote', '#0072b2', '^--'),
  }
  for name, (label, colour, form) in lines.items():
    left.plot(
      table['budget'], table[name], form, color=colour, ms=4.5, lw=1.2, mec='white', mew=0.6,
      label=label,
    )  # fmt: skip
  left.set_title('solved, cross-fitted')
  left.set_ylabel('share of problems solved')
  figure.legend(*left.get_legend_handles_labels(), loc='outside lower left', ncols=4)
  spread = np.geomspace(0.93, 1.075, 3)
  for shift, name in zip(spread, test_time.BASELINES):
    y, colour = table[f'gain_{name}'], lines[name][1]
    bars = np.maximum([y - table[f'gain_{name}_low'], table[f'gain_{name}_high'] - y], 0)
    middle.errorbar(
      table['budget'] * shift, y, bars, ls='none', marker=lines[name][2][0], color=colour, ms=5,
      mec='white', mew=0.6,
    )  # fmt: skip
  middle.axhline(0, color=INK, lw=0.9)
  middle.set_title('gain of difficulty bins over it, 95 %')
  low, high = table['budget'].min(), table['budget'].max()
  for axes in (left, middle):
    style.log_axis(axes.xaxis, low * 0.9, high * 1.1, 'FLOP', ticks=style.few(table['budget'], 4))
    axes.yaxis.set_major_locator(ticker.MaxNLocator(7, steps=[1, 2, 5, 10]))
    style.percent_axis(axes.yaxis)
    axes.set_xlabel('budget: model FLOPs of a query')
  chosen = found.chosen
  ys = np.arange(len(chosen))
  right.barh(ys, chosen['value'], 0.55, color=ACCENT, alpha=0.75)
  right.plot(chosen['pass_rate'], ys, '|', color=INK, ms=16, mew=1.8)
  names = [
    f'{strategy_name(r["strategy"], r["scorer_name"])}, k = {r["k"]:.0f}\n{r["problems"]} problems'
    for _, r in chosen.iterrows()
  ]
  right.set_yticks(ys, names, fontsize=7.5)
  right.set_xlim(0, 1)
  style.percent_axis(right.xaxis)
  right.grid(axis='y', visible=False)
  right.set_title('each bin’s choice, on all problems')
  right.set_xlabel('solved (bar, in sample); pass rate of 1 sample ( | )')
  many = f', {found.seeds} seeds' if found.seeds > 1 else ''
  several = readings.several_runs(reading.coverage)
  figure.suptitle(
    f'{found.cell["model"]}, {_cell_words(found.cell, several)}; '
    f'n = {int(table["problems"].iloc[0])} problems × {found.n} samples{many}; '
    'hardest bin at the bottom',
    fontsize=8.5, color=MUTED, x=0.01, ha='left',
  )  # fmt: skip
  title = 'Compute-optimal test time'
  return Drawing('compute_optimal', title, figure, ' '.join(findings.compute_optimal(reading)))


def _cell_words(cell, several: bool) -> str:
  """'1.6M SFT tokens, 80 RL updates'; several: '1.6M SFT tokens, 80 RL updates of dapo'."""
  return f'{style.human(cell["sft_tokens"])} SFT tokens{_updates(cell, several)}'
