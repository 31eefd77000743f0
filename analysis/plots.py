"""The figures of a report. Each is a Drawing: what it shows is in its caption, from the numbers."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib import ticker

from analysis import bands, estimators, findings, hosted, readings, self_training_plots, sft, style
from analysis.fit import predict, predict_interval
from analysis.frontier_plots import frontier_figure, ledger_figure, split_figure
from analysis.interpret import Reading
from analysis.joint import predict_pass_at_k
from analysis.laws import coverage
from analysis.readings import RUN
from analysis.regression import COLUMNS
from analysis.residual_plots import residuals_figure
from analysis.style import ACCENT, INK, MUTED, Drawing, human
from analysis.tables import most_pretrained
from analysis.test_time_plots import COLOURS, compute_optimal_figure, strategies_figure

SOLID = {'marker': 'o', 'markeredgecolor': 'white', 'markeredgewidth': 0.8}


def all_figures(reading: Reading, queries: float | None = None) -> list[Drawing]:
  """Every figure that the study has data for, in the order of the report."""
  if hosted.is_hosted(reading.study):
    return [hosted.figure(reading.study)]
  drawings = [frontier_figure(reading, queries), split_figure(reading, queries)]
  drawings += [curves_figure(reading), loss_figure(reading), coverage_figure(reading)]
  drawings += [strategies_figure(reading), compute_optimal_figure(reading), rl_figure(reading)]
  drawings += [joint_figure(reading), residuals_figure(reading)]
  drawings += [sft.draw(reading.sft_laws)] if reading.sft_laws is not None else []
  drawings += [ledger_figure(reading)]
  if reading.taught is not None:
    drawings += self_training_plots.figures(reading.taught)
  return [drawing for drawing in drawings if drawing is not None]


@style.styled
def curves_figure(reading: Reading) -> Drawing | None:
  """Training loss against step and RL reward against update, by size; the least seed's runs.

  An SFT trunk is drawn whole, its branches thinner: a branch decays the learning rate to 0.
  """
  study = reading.study
  curves = study.curves
  if curves.empty or 'loss' not in curves:
    return None
  curves = curves[curves['seed'] == curves['seed'].min()]
  recipes = {s['id']: s.get('recipe') or {} for s in study.plan['stages']}
  presets = {stage: recipe.get('preset', '') for stage, recipe in recipes.items()}
  runs = [recipes[stage].get('reference', stage) for stage in curves['stage']]  # RL: its parent
  measured = study.records.drop_duplicates('model').set_index('model')['params_non_embedding']
  models = sorted(set(presets.values()) & set(measured.index), key=measured.get)
  colours = style.ramp(models)
  kinds = [k for k in ('pretrain', 'sft', 'rl') if (curves['kind'] == k).any()]
  if not kinds or not models:
    return None
  figure, panels = style.new(1, len(kinds), width=0.8 + 2.6 * len(kinds), height=3.2, squeeze=False)
  for axes, kind in zip(panels[0], kinds):
    value = 'reward' if kind == 'rl' else 'loss'
    for stage, points in curves.assign(run=runs)[curves['kind'] == kind].groupby('run'):
      if presets.get(stage) not in colours or value not in points:
        continue
      points = points.sort_values('step')
      smooth = points[value].rolling(max(len(points) // 10, 1), center=True, min_periods=1).mean()
      branch = kind == 'sft' and recipes[stage].get('end') is not None
      colour = colours[presets[stage]]
      axes.plot(points['step'], smooth, color=colour, lw=0.8 if branch else 1.3, alpha=0.85)
    axes.set_title(style.stage_name(kind))
    axes.set_xlabel('update' if kind == 'rl' else 'step')
    axes.set_ylabel('mean reward of the rollouts' if kind == 'rl' else 'training loss, nats')
    if kind != 'rl' and axes.lines:
      axes.set_yscale('log')
      axes.yaxis.set_major_locator(ticker.LogLocator(base=10, subs=(1, 2, 5)))
      axes.yaxis.set_major_formatter('{x:g}')
      axes.yaxis.set_minor_locator(ticker.NullLocator())
  handles = [panels[0][0].plot([], [], color=colours[m])[0] for m in models]
  figure.legend(handles, models, loc='outside upper left', ncols=len(models))
  said = f'Seed {curves["seed"].min():.0f}. Each line is smoothed over a tenth of its steps.'
  if 'sft' in kinds:
    said += ' SFT: a trunk of constant learning rate, and thin branches that decay it.'
  return Drawing('curves', 'Training curves', figure, said)


@style.styled
def loss_figure(reading: Reading) -> Drawing | None:
  """Held-out loss against SFT tokens by size, the held-out point ringed, with the law where it was
  fitted: of the bases of the most pretraining. None where no model has several budgets."""
  losses, law = reading.losses, reading.loss_fit
  of_a_model = losses.groupby(['params_non_embedding', 'pretrain_tokens']).size()
  if losses.empty or of_a_model.max() < 2:
    return None
  figure, axes = style.new(width=7.0, height=4.0)
  colours = style.ramp(losses['params_non_embedding'].unique())
  ends, fitted = [], most_pretrained(losses).index
  for key, cells in losses.groupby(['params_non_embedding', 'pretrain_tokens'], sort=True):
    cells, colour = cells.sort_values('tokens'), colours[key[0]]
    x, y = cells['tokens'], cells['value']
    axes.errorbar(x, y, 1.96 * cells['stderr'], ls='none', color=colour, **SOLID, zorder=3)
    if law is not None and cells.index.isin(fitted).all():
      grid = pd.DataFrame({'tokens': np.geomspace(x.min(), x.max(), 60)})
      grid['params_non_embedding'] = key[0]
      axes.plot(grid['tokens'], predict(law, grid), color=colour, lw=1.4)
      low, high = predict_interval(law, grid)
      axes.fill_between(grid['tokens'], low, high, color=colour, alpha=0.12, lw=0)
    else:
      axes.plot(x, y, color=colour, lw=1, alpha=0.5)
    name = readings.group_name(cells.iloc[-1], losses['pretrain_tokens'].nunique() > 1)
    ends.append((float(y.iloc[-1]), name, colour))
  held = losses[losses['held_out']]
  axes.plot(held['tokens'], held['value'], 'o', ms=12, mfc='none', mec=ACCENT, mew=1.6, zorder=4)
  for _, point in held.iterrows():
    axes.annotate(
      'held out',
      (point['tokens'], point['value']),
      xytext=(-12, -12),
      textcoords='offset points',
      ha='right',
      color=ACCENT,
      fontsize=8,
    )
  low, high = losses['value'].min(), losses['value'].max()
  if high > 5 * low:
    style.log_axis(axes.yaxis, low, high)
  tokens = losses['tokens']
  style.log_axis(axes.xaxis, tokens.min(), tokens.max(), ticks=style.few(tokens))
  style.label_ends(axes, ends, tokens.max(), offset=12)
  axes.set_xlabel(losses['axis'].iloc[0])
  axes.set_ylabel('held-out loss, nats per response token')
  axes.set_title(f'n = {int(losses["problems"].iloc[0])} held-out problems; labels: model size')
  caption = '\n'.join([*findings.loss(reading), *findings.trunks(reading)])
  return Drawing('loss', 'Held-out loss against SFT tokens', figure, caption)


@style.styled
def coverage_figure(reading: Reading, budgets: int = 5) -> Drawing | None:
  """pass@k against k: measured, beta-binomial and power law; one panel a size."""
  table = reading.coverage
  if table.empty:
    return None
  table = table[table['seed'] == table['seed'].min()]
  sizes = sorted(table['params_non_embedding'].unique())[-4:]
  runs = sorted(table.loc[table['rl_updates'] > 0, 'rl_algorithm'].unique())
  runs = {run: COLOURS[i % len(COLOURS)] for i, run in enumerate(runs)}
  several = len(runs) > 1
  width, height = 2.2 + 2.6 * len(sizes), 3.7 + 0.2 * len(runs) * several
  figure, panels = style.new(1, len(sizes), width=width, height=height, sharey=True, squeeze=False)
  tokens = sorted(table['sft_tokens'].unique())
  shown = [
    tokens[i] for i in np.unique(np.linspace(0, len(tokens) - 1, budgets).round().astype(int))
  ]
  colours = style.ramp(shown)
  counts = {bank: cell for bank, cell in reading.study.counts.groupby('bank')}
  handles, K = {}, int(table['K'].max())
  for axes, size in zip(panels[0], sizes):
    cells = table[(table['params_non_embedding'] == size) & table['sft_tokens'].isin(shown)]
    for _, cell in cells[cells['rl_updates'] == 0].iterrows():
      label = f'SFT {human(cell["sft_tokens"])}'
      handles[label] = _coverage_curve(
        axes, cell, counts[cell['bank']], colours[cell['sft_tokens']]
      )
    after = cells[cells['rl_updates'] > 0].sort_values(['sft_tokens', 'rl_updates'])
    after = after[after['sft_tokens'] == after['sft_tokens'].max()]
    for _, cell in after.drop_duplicates('rl_algorithm', keep='last').iterrows():
      run = cell['rl_algorithm']
      label = textwrap.fill(f'then {run}' if several else 'the largest SFT, then RL', 50)
      handles[label] = _coverage_curve(axes, cell, counts[cell['bank']], runs[run])
    style.log_axis(axes.xaxis, 1, K, ticks=style.few(estimators.default_ks(4 * K)), base=2)
    style.percent_axis(axes.yaxis)
    axes.set_title(f'{cells["model"].iloc[0]}')
    axes.set_xlabel('k samples')
    axes.set_ylim(0, 1.02)
  panels[0][0].set_ylabel('pass@k (oracle)')
  first = table.iloc[0]
  between = ' ' if len(sizes) > 1 else '\n'
  figure.suptitle(
    f'n = {int(first["problems"])} problems × {int(first["n"])} samples; points: measured, 95 %;'
    f'{between}solid: beta-binomial; dotted: exp(−a k^−b)',
    fontsize=8.5,
    color=MUTED,
    x=0.01,
    ha='left',
  )
  figure.legend(
    handles.values(),
    handles.keys(),
    loc='outside lower center',
    ncols=min(len(sizes), 2) if several else min(len(handles), 2 + len(sizes), 4),
  )
  drawn = f'Drawn: beta-binomials of all samples, power laws of k ≤ {table["few"].iloc[0]}.'
  caption = '\n'.join([*findings.coverage(reading), *([drawn] if 'a' in table else [])])
  return Drawing('coverage', 'Coverage: pass@k against k', figure, caption)


def _coverage_curve(axes, cell, counts, colour):
  ks = np.array(estimators.default_ks(int(cell['n'])))
  ks = ks[ks <= cell['K']]
  passes = np.array([estimators.pass_at_k(counts['n'], counts['c'], k) for k in ks])
  low, high = bands.bootstrap_problems(passes.T)
  y = passes.mean(1)
  bars = np.maximum([y - low, high - y], 0)
  axes.errorbar(ks, y, bars, ls='none', color=colour, **SOLID, zorder=3)
  grid = np.geomspace(1, ks[-1], 50)
  if np.isfinite(cell.get('alpha', np.nan)):
    fitted = estimators.coverage_from_beta(cell['alpha'], cell['beta'], grid)
    axes.plot(grid, fitted, color=colour, lw=1.4)
  if np.isfinite(cell.get('a', np.nan)):
    axes.plot(grid, coverage(cell['a'], cell['b'], grid), color=colour, lw=1.2, ls=':')
  return axes.plot([], [], color=colour, **SOLID)[0]


@style.styled
def rl_figure(reading: Reading) -> Drawing | None:
  """pass@1 and majority against RL compute for each SFT parent, and the paired change."""
  changes = reading.changes
  if changes.empty:
    return None
  keys = list(
    changes.sort_values(['params_non_embedding', *RUN[1:]]).groupby(RUN, sort=False).groups
  )
  colours, K = style.ramp(keys), changes['k'].max()
  figure, (left, right) = style.new(
    1, 2, width=8.6, height=3.9, gridspec_kw={'width_ratios': [1.25, 1]}
  )
  once = changes[changes['k'] == 1]
  edge = once['rl_flops'].min() / 1.8
  for key, points in once.groupby(RUN):
    points, colour = points.sort_values('rl_flops'), colours[key]
    x, y = points['rl_flops'], points['value']
    bars = [y - points['value_low'], points['value_high'] - y]
    left.errorbar(x, y, bars, ls='none', color=colour, **SOLID, zorder=3)
    left.plot([edge, x.max()], [points['parent'].iloc[0]] * 2, color=colour, lw=0.8, ls=(0, (4, 3)))
    vote = changes[(changes['k'] == K) & (changes[RUN] == list(key)).all(axis=1)]
    vote = vote.sort_values('rl_flops')
    left.plot(
      vote['rl_flops'], vote['value'], 's:', color=colour, mfc='none', ms=4.5, mew=1.1, lw=0.8
    )
    law = reading.rl_fits.get(key)
    if law is not None:
      column = next(c for name, c in law.columns.items() if name in ('C', 'x'))
      grid = pd.DataFrame({column: np.geomspace(x.min(), x.max() * 1.15, 60)})
      left.plot(grid[column], predict(law, grid), color=colour, lw=1.4)
  style.log_axis(left.xaxis, once['rl_flops'].min(), once['rl_flops'].max(), 'FLOP')
  style.percent_axis(left.yaxis)
  left.set_xlabel('RL FLOPs of the path, rollouts included')
  left.set_title(f'● pass@1   □ majority@{K}   – – SFT parent')
  left.set_ylabel('share of problems solved')
  last = readings.last_changes(once)
  rows = np.arange(len(last))[::-1]
  for row, (_, point) in zip(rows, last.iterrows()):
    colour = colours[tuple(point[RUN])]
    right.plot([point['change_low'], point['change_high']], [row, row], color=colour, lw=2.2)
    right.plot(point['change'], row, color=colour, ms=7, **SOLID)
    right.annotate(
      style.points(point['change']),
      (point['change_high'], row),
      xytext=(6, 0),
      textcoords='offset points',
      va='center',
      fontsize=8,
    )
  right.axvline(0, color=INK, lw=0.9)
  names = [
    textwrap.fill(f'{readings.run_name(p, changes)}, SFT {human(p["sft_tokens"])}', 32)
    for _, p in last.iterrows()
  ]
  updates = [f'{name}\n{u:.0f} updates' for name, u in zip(names, last['rl_updates'])]
  right.set_yticks(rows, updates, fontsize=8)
  keys = [left.plot([], [], color=colours[tuple(p[RUN])], **SOLID)[0] for _, p in last.iterrows()]
  figure.legend(keys, names, loc='outside lower left', ncols=min(len(names), 3))
  right.set_ylim(-0.6, len(last) - 0.4)
  right.margins(x=0.25)
  style.percent_axis(right.xaxis)
  right.grid(axis='y', visible=False)
  right.set_title('pass@1 over the SFT parent')
  right.set_xlabel(f'points, 95 %, paired over n = {int(last["problems"].iloc[0])} problems')
  return Drawing('rl', 'Reinforcement learning', figure, '\n'.join(findings.rl(reading)))


@style.styled
def joint_figure(reading: Reading) -> Drawing | None:
  """The joint law on the held-out corner beside the naive baseline, and the errors of each law."""
  corner = reading.heldout
  if corner is None:
    return None
  figure, (left, right) = style.new(
    1, 2, width=8.2, height=4.0, gridspec_kw={'width_ratios': [1.1, 1]}
  )
  table = corner.table
  left.plot([0, 1], [0, 1], color=MUTED, lw=0.9)
  if reading.joint is not None:
    cells = reading.coverage[reading.coverage['sft_tokens'] > 0]
    where = (cells[column].to_numpy() for column in COLUMNS.values())
    inside = predict_pass_at_k(reading.joint, *where, cells['K'].to_numpy())[0]
    label = 'fitted to all cells (in sample)'
    left.plot(inside, cells['measured'], 'o', ms=3.5, color=MUTED, alpha=0.6, mew=0, label=label)
  left.plot(
    table['naive'],
    table['measured'],
    's',
    mfc='none',
    color=MUTED,
    label='held out: nearest cell (naive)',
  )
  bars = np.maximum([table['joint'] - table['low'], table['high'] - table['joint']], 0)
  left.errorbar(
    table['joint'],
    table['measured'],
    xerr=bars,
    ls='none',
    color=ACCENT,
    **SOLID,
    label='held out: joint law',
  )
  for axis in (left.xaxis, left.yaxis):
    style.percent_axis(axis)
  left.set_xlim(-0.02, 1.02)
  left.set_ylim(-0.02, 1.02)
  left.set_xlabel('predicted pass@k')
  left.set_ylabel('measured pass@k')
  left.set_title(f'{style.counted(corner.heldout_cells, "held-out cell")}, each k')
  figure.legend(loc='outside upper left', ncols=3)
  names = sorted(corner.error, key=corner.error.get, reverse=True)
  colours = [ACCENT if name == 'joint' else MUTED for name in names]
  right.barh(range(len(names)), [100 * corner.error[name] for name in names], 0.55, color=colours)
  for row, name in enumerate(names):
    right.annotate(
      f'{100 * corner.error[name]:.1f}',
      (100 * corner.error[name], row),
      xytext=(4, 0),
      textcoords='offset points',
      va='center',
      fontsize=8,
    )
  right.set_yticks(
    range(len(names)), [findings.METHODS[name].replace(', ', ',\n') for name in names]
  )
  right.grid(axis='y', visible=False)
  right.margins(x=0.15)
  right.set_xlabel('mean absolute error of pass@k, points')
  right.set_title('error on the held-out corner')
  caption = '\n'.join(findings.joint(reading))
  return Drawing('joint', 'The joint law, held out', figure, caption)
