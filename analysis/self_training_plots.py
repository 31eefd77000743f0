"""The figures of self-training: rounds, the worth of examples beside human data, gaps, paths."""

import numpy as np

from analysis import self_training, self_training_words, style
from analysis.self_training import Found
from analysis.style import ACCENT, INK, MUTED, Drawing

PANELS = ('pass_1', 'pass_K', 'entropy', 'distinct', 'loss')
TITLES = {
  'pass_1': 'pass@1',
  'entropy': 'entropy, nats a token',
  'distinct': f'distinct-{self_training.GRAM}',
  'loss': 'held-out human loss, nats',
}


def figures(found: Found) -> list[Drawing]:
  """Those that the study has data for."""
  drawings = [watch_figure(found), against_figure(found)]
  drawings += [recovered_figure(found), paths_figure(found)]
  return [drawing for drawing in drawings if drawing is not None]


@style.styled
def watch_figure(found: Found) -> Drawing:
  """Every run over its rounds: what it gains at the first try, and what it may lose for it."""
  table = found.watch
  names = list(dict.fromkeys(zip(table['run'], table['model'], strict=True)))
  several = table['model'].nunique() > 1
  colours = style.ramp(names)
  shown = [name for name in PANELS if name in table and table[name].notna().any()]
  rows = -(-(len(shown) + 1) // 3)
  figure, panels = style.new(rows, 3, width=9.2, height=2.9 * rows, squeeze=False)
  panels = panels.ravel()
  for axes, name in zip(panels, shown, strict=False):
    for i, key in enumerate(names):
      run = table[(table['run'] == key[0]) & (table['model'] == key[1])].sort_values('round')
      x = run['round'] + 0.025 * (i - (len(names) - 1) / 2)  # bars stand side by side
      axes.plot(x, run[name], marker='o', ms=3.5, color=colours[key], lw=1.4)
      changed = run[run['round'] > 0]
      start = run.loc[run['round'] == 0, name]
      if f'{name}_low' in run and len(start):
        low, high = (changed[f'{name}_{end}'] + start.iloc[0] for end in ('low', 'high'))
        low = np.maximum(low, 0)  # of these, none is negative
        axes.vlines(x[run['round'] > 0], low, high, color=colours[key], lw=0.8, alpha=0.6)
    axes.set_title(TITLES.get(name, f'pass@{found.K}'))
    axes.set_xlabel('round (0: the SFT branch)')
    axes.set_xticks(range(int(table['round'].max()) + 1))
    if name in ('pass_1', 'pass_K'):
      style.percent_axis(axes.yaxis)
  for axes in panels[len(shown) :]:
    axes.axis('off')
  labels = [f'{run}, {model}' if several else run for run, model in names]
  handles = [panels[0].plot([], [], color=colours[key], marker='o', ms=3.5)[0] for key in names]
  panels[len(shown)].legend(
    handles, [_short(label) for label in labels], loc='center left', fontsize=7
  )
  rows = self_training_words.last_rounds(found)
  said = [line for row in rows for line in self_training_words.collapse(row, found.K)]
  caption = 'Bars: 95 % of the change over round 0, problems paired. ' + (
    ' '.join(said) or f'No run has pass@1 up and pass@{found.K} down beyond noise.'
  )
  return Drawing('self_training', 'Self-training, round by round', figure, caption)


def _short(label: str, most: int = 44) -> str:
  return label if len(label) <= most else label[: most - 1] + '…'


@style.styled
def against_figure(found: Found) -> Drawing | None:
  """pass@1 over that of human data alone, at equal tokens and at equal FLOPs."""
  table = found.against
  if table.empty or table[['tokens_change', 'flops_change']].isna().all(axis=None):
    return None
  table = table.iloc[::-1].reset_index(drop=True)
  figure, axes = style.new(width=7.4, height=1.2 + 0.42 * len(table))
  for offset, axis, colour, label in (
    (0.13, 'tokens', INK, 'equal tokens of SFT'),
    (-0.13, 'flops', ACCENT, 'equal FLOPs: samples, and who drew them, counted'),
  ):
    change, low, high = (100 * table[f'{axis}_{part}'] for part in ('change', 'low', 'high'))
    at = np.arange(len(table)) + offset
    axes.hlines(at, low, high, color=colour, lw=1.6)
    axes.plot(change, at, 'o', color=colour, label=label)
  axes.axvline(0, color=MUTED, lw=1)
  several = table['model'].nunique() > 1
  names = [f'{r.run}, {r.model}' if several else r.run for r in table.itertuples()]
  axes.set_yticks(range(len(table)), [_short(name) for name in names])
  axes.set_ylim(-0.6, len(table) - 0.4)
  axes.set_xlabel('pass@1 over human data alone, points')
  figure.legend(loc='outside upper left', ncols=2)
  seeds = int(table['seeds'].min())
  caption = f'95 % intervals, problems and seeds resampled, paired; {seeds} seed(s).'.replace(
    'seed(s)', 'seed' if seeds == 1 else 'seeds'
  )
  if table['flops_change'].isna().any():
    caption += ' Where the second is missing, no runs of human data are around those FLOPs.'
  return Drawing('against_human', 'Synthetic against human data', figure, caption)


@style.styled
def recovered_figure(found: Found) -> Drawing | None:
  """Weak teacher, student and ceiling of every pair, with the part of the gap recovered."""
  table = found.recovered
  if table.empty:
    return None
  figure, axes = style.new(width=7.4, height=1.4 + 0.5 * len(table))
  for i, row in enumerate(table.iloc[::-1].itertuples()):
    axes.hlines(i, row.weak, row.strong, color=MUTED, lw=1)
    axes.plot(row.weak, i, 's', color=MUTED, label='the weak teacher' if i == 0 else None)
    axes.plot(row.strong, i, 'D', color=INK, label='the ceiling: true labels' if i == 0 else None)
    label = 'the student of its labels' if i == 0 else None
    axes.plot(row.student, i, 'o', color=ACCENT, ms=7, label=label)
    text = (
      'gap not above 0' if np.isnan(row.pgr) else f'{row.pgr:.2f} ({row.low:.2f}–{row.high:.2f})'
    )
    axes.annotate(text, (max(row.strong, row.student, row.weak), i), xytext=(10, 0), va='center',
                  textcoords='offset points', fontsize=8)  # fmt: skip
  rows = table.iloc[::-1]
  names = [f'{r.teacher} → {r.model}' for r in rows.itertuples()]
  if table['run'].nunique() > table['teacher'].nunique():
    names = [f'{name}: {_short(r.run, 24)}' for name, r in zip(names, rows.itertuples())]
  axes.set_yticks(range(len(table)), names)
  axes.set_ylim(-0.6, len(table) - 0.4)
  axes.margins(x=0.25)
  axes.set_xlabel('pass@1')
  style.percent_axis(axes.xaxis)
  figure.legend(loc='outside upper left', ncols=3)
  caption = (
    'The number is the part of the gap that is recovered, with its 95 % interval over problems '
    'and seeds.'
  )
  return Drawing('weak_to_strong', 'Weak to strong', figure, caption)


@style.styled
def paths_figure(found: Found) -> Drawing | None:
  """pass@1 over distinct reasoning paths, with the line through all runs."""
  if found.paths.empty:
    return None
  figure, axes = style.new(width=6.4, height=3.8)
  colours, ends = style.ramp(found.paths.index), []
  for i, row in found.paths.iterrows():
    axes.plot(row['paths'], row['accuracy'], 'o', color=colours[i])
    along = np.geomspace(row['paths'][0], row['paths'][-1], 50)
    line = row['intercept'] + row['slope'] * np.log2(along)
    axes.plot(along, line, color=colours[i], lw=1.2)
    ends.append((row['accuracy'][-1], f'{row["recipe"]}, {row["model"]}', colours[i]))
  most = max(row['paths'][-1] for _, row in found.paths.iterrows())
  fewest = min(row['paths'][0] for _, row in found.paths.iterrows())
  ticks = style.few(x for row in found.paths['paths'] for x in row)
  style.log_axis(axes.xaxis, fewest, most, ticks=ticks)
  style.percent_axis(axes.yaxis)
  style.label_ends(axes, ends, most)
  axes.set_xlabel('distinct reasoning paths')
  axes.set_ylabel('pass@1')
  said = [self_training_words.line_words(row) for row in found.paths.itertuples()]
  return Drawing('paths', 'Accuracy over reasoning paths', figure, '\n'.join(said))
