"""The figures of compute: the frontier, the best splits, the ledger. `plots` has the others."""

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib import ticker

from analysis import findings, frontier, frontier_words, planning, readings, style
from analysis.errors import BadInput
from analysis.frontier import Measured
from analysis.interpret import Reading
from analysis.style import ACCENT, INK, MUTED, Drawing, flops, human, stage_name

LAW = '#0072b2'


@style.styled
def frontier_figure(
  reading: Reading,
  queries: float | None = None,
  budgets: Sequence[float] | None = None,
  pretraining: str = 'sunk',
  rates: planning.Rates | None = None,
) -> Drawing | None:
  """Quality against what it costs in all: measured points, their hull, oracle bound, the law.

  budgets: of the choices drawn; three spread over the frontier where none are given.
  """
  if reading.quality is None:
    return None
  queries = frontier.default_queries(reading.quality) if queries is None else queries
  measured = frontier.measured(reading.deployable, queries, pretraining, rates)
  table, unit = measured.table, measured.unit
  budgets = budgets or frontier.default_budgets(table)
  best = frontier.best_at(measured, budgets)
  if not best['affordable'].any():
    least = style.amount(table['total'].min(), unit)
    raise BadInput(f'a budget buys none of the measured splits; the cheapest costs {least}')
  votes_alone = (table['strategy'] == 'majority').all()
  what = 'majority@k' if votes_alone else 'deployable strategies'
  top = max(table['oracle'].max(), table['hull_high'].max(), np.nan_to_num(best['quality']).max())
  top = float(np.clip(1.15 * top, 0.02, 1.0))
  figure, axes = style.new(width=7.4, height=4.4)
  colours = style.ramp(sorted(table['params_non_embedding'].unique()))
  for size, rows in table.groupby('params_non_embedding'):
    axes.plot(
      rows['total'],
      rows['quality'],
      'o',
      ms=3.5,
      color=colours[size],
      alpha=0.55,
      mew=0,
      label=f'{what} of {rows["model"].iloc[0]}',
    )
  axes.step(
    table['total'],
    table['oracle'].cummax(),
    where='post',
    color=MUTED,
    lw=1.2,
    ls='--',
    label='oracle pass@k: the upper bound',
  )
  axes.step(
    table['total'],
    table['hull'],
    where='post',
    color=INK,
    label=f'{what}: best measured (optimistic), 95 %',
  )
  axes.fill_between(
    table['total'],
    table['hull_low'],
    table['hull_high'],
    step='post',
    color=INK,
    alpha=0.10,
    lw=0,
  )
  caption = frontier_words.best_split(measured, best)
  if reading.majority is not None:
    problem = frontier.problem(reading.majority, reading.quality, queries, pretraining, rates)
    span = np.geomspace(table['total'].min(), table['total'].max(), 60)
    line = planning.curve(problem, span, inside=True)
    label = 'the law of majority@k, within the measured ranges'
    axes.plot(span, line['value'], color=LAW, label=label)
    axes.fill_between(span, line['low'], line['high'], color=LAW, alpha=0.13, lw=0)
    law_best = frontier.predicted(problem, budgets)
    caption += frontier_words.law_split(law_best, unit)
    _law_choices(axes, law_best, top)
  bars = np.maximum([best['quality'] - best['low'], best['high'] - best['quality']], 0)
  axes.errorbar(
    best['budget'],
    best['quality'],
    bars,
    ls='none',
    marker='D',
    ms=6,
    color=ACCENT,
    mec='white',
    zorder=4,
    label='chosen on half of the problems, scored on the rest',
  )
  middle = np.sqrt(table['total'].min() * table['total'].max())
  chosen = frontier.solving(best)
  for i, (_, row) in enumerate(chosen.iterrows()):
    height = top * (1.06 + 0.075 * (len(chosen) - 1 - i))  # a line of text each, so none overlap
    axes.plot([row['budget']] * 2, [row['quality'], height], color=ACCENT, lw=0.7, ls=':')
    axes.text(
      row['budget'],
      height,
      frontier_words.split_words(row, short=True),
      ha='left' if row['budget'] < middle else 'right',
      va='bottom',
      fontsize=7.5,
      color=ACCENT,
      bbox={'facecolor': 'white', 'edgecolor': 'none', 'pad': 0.8},
    )
  shown = 'FLOP' if unit == 'FLOP' else ''
  style.log_axis(axes.xaxis, table['total'].min(), table['total'].max(), shown)
  style.percent_axis(axes.yaxis)
  axes.set_ylim(0, top * (1.08 + 0.075 * max(len(chosen), 1)))
  axes.set_yticks([y for y in ticker.MaxNLocator(5).tick_values(0, top) if y <= top])
  spent = 'pretraining + SFT + RL' if pretraining == 'counted' else 'SFT + RL'
  said = '' if pretraining == 'counted' else ' (pretraining sunk)'
  axes.set_xlabel(f'total {unit}: {spent} + {human(queries)} queries{said}')
  axes.set_ylabel('quality on held-out problems')
  axes.set_title(f'n = {int(table["problems"].iloc[0])} problems; {len(table)} measured splits')
  figure.legend(loc='outside upper left', ncols=2)
  title = 'The frontier: quality against total compute'
  return Drawing('frontier', title, figure, '\n'.join(caption))


def _law_choices(axes, law_best, top):
  """What the law would choose for each budget: a ring where that is extrapolated, else a dot."""
  free = law_best[~law_best['inside'] & law_best['affordable']]
  for extrapolated, rows in free.groupby(free['extrapolated'].astype(bool)):
    axes.errorbar(
      rows['budget'],
      rows['quality'],
      np.maximum(
        [rows['quality'] - rows['low'], rows['high'].clip(upper=top) - rows['quality']], 0
      ),
      ls='none',
      marker='o',
      ms=6,
      color=LAW,
      mfc='white' if extrapolated else LAW,
      lw=0.9,
      zorder=3,
      label="the law's choice" + (', extrapolated' if extrapolated else ''),
    )


@style.styled
def split_figure(reading: Reading, queries: float | None = None) -> Drawing | None:
  """How the best split of each budget divides its compute, pretraining sunk and counted."""
  if reading.quality is None:
    return None
  queries = frontier.default_queries(reading.quality) if queries is None else queries
  figure, panels = style.new(1, 2, width=9.0, height=3.6, sharex=True)
  said = []
  for axes, pretraining in zip(panels, ('sunk', 'counted')):
    measured = frontier.measured(reading.deployable, queries, pretraining)
    best = frontier.best_at(measured, frontier.default_budgets(measured.table))
    _split_bars(axes, measured, best)
    said += [frontier_words.largest_share(best, pretraining), *frontier_words.scorer(best)]
  panels[0].set_ylabel('budget')
  handles, labels = panels[1].get_legend_handles_labels()
  figure.legend(handles, labels, loc='outside lower center', ncols=4)
  title = f'The best split of three budgets, {human(queries)} queries'
  return Drawing('splits', title, figure, '\n'.join(dict.fromkeys(said)))


def _split_bars(axes, measured: Measured, best):
  rows, several = np.arange(len(best))[::-1], readings.several_runs(measured.table)
  left, solves = np.zeros(len(best)), best.index.isin(frontier.solving(best).index)
  for stage in frontier.STAGES:
    if stage == 'pretrain' and measured.pretraining == 'sunk':
      continue
    label = stage_name(stage)
    share = np.where(solves, best[f'share_{stage}'].to_numpy(float), 0)
    axes.barh(rows, share, 0.5, left=left, color=style.STAGE_COLOURS[stage], label=label)
    for row, start, width in zip(rows, left, share):
      if width > 0.08:
        axes.text(
          start + width / 2, row, f'{100 * width:.0f} %', ha='center', va='center', fontsize=8,
          color='white',
        )  # fmt: skip
    left += share
  for row, (_, split) in zip(rows, best.iterrows()):
    words = textwrap.fill(frontier_words.split_words(split, runs=several), 60)
    axes.text(0, row + 0.31, words, fontsize=7, va='bottom', color=INK)
  axes.set_yticks(rows, [flops(b) for b in best['budget']])
  axes.set_ylim(-0.5, len(best) - 0.2)
  axes.grid(visible=False)
  axes.set_xlim(0, 1)
  style.percent_axis(axes.xaxis)
  axes.set_xlabel('share of the compute spent')
  axes.set_title(f'pretraining {measured.pretraining}')


@style.styled
def ledger_figure(reading: Reading) -> Drawing | None:
  """FLOPs by stage and kind: what the mathematics needs beside what the program did."""
  totals = readings.ledger_totals(reading.study)
  if totals.empty:
    return None
  stages = readings.in_order(totals['stage_kind'])
  figure, axes = style.new(width=7.4, height=1.3 + 0.62 * len(stages))
  rows = {stage: len(stages) - 1 - i for i, stage in enumerate(stages)}
  for column, offset, alpha in (('model', 0.2, 1.0), ('executed', -0.2, 0.55)):
    left = dict.fromkeys(stages, 0.0)
    for kind, colour in style.KIND_COLOURS.items():
      for _, cell in totals[totals['kind'] == kind].iterrows():
        stage, value = cell['stage_kind'], float(np.nan_to_num(cell[column]))
        axes.barh(rows[stage] + offset, value, 0.34, left=left[stage], color=colour, alpha=alpha)
        left[stage] += value
    for stage, end in left.items():
      axes.annotate(
        f'{flops(end)} {column}',
        (end, rows[stage] + offset),
        xytext=(5, 0),
        textcoords='offset points',
        va='center',
        fontsize=7.5,
        color=INK if column == 'model' else MUTED,
      )
  for kind in [k for k in style.KIND_COLOURS if k in set(totals['kind'])]:
    axes.barh(0, 0, color=style.KIND_COLOURS[kind], label=kind.replace('_', ' '))
  axes.set_yticks(list(rows.values()), [stage_name(stage) for stage in rows])
  axes.margins(x=0.18)
  axes.xaxis.set_major_formatter(lambda value, _: flops(value) if value else '0')
  axes.grid(axis='y', visible=False)
  figure.legend(loc='outside upper left', ncols=4)
  caption = '\n'.join(findings.ledger(reading))
  return Drawing('ledger', 'The ledger: FLOPs by stage and kind', figure, caption)
