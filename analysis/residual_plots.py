"""The residuals of a study's laws: what each cell measured less what its law says of it."""

import numpy as np
import pandas as pd

from analysis import style
from analysis.fit import predict
from analysis.interpret import Reading
from analysis.joint import predict_majority, predict_pass_at_k
from analysis.readings import RUN
from analysis.regression import COLUMNS
from analysis.style import ACCENT, INK, Drawing
from analysis.tables import most_pretrained


@style.styled
def residuals_figure(reading: Reading) -> Drawing | None:
  """Measured less fitted, of each law: loss, RL, and the joint laws at their largest k."""
  parts = [_loss_residuals(reading), _rl_residuals(reading), *_joint_residuals(reading)]
  parts = [part for part in parts if part is not None]
  if not parts:
    return None
  rows, columns = -(-len(parts) // 2), min(len(parts), 2)
  figure, panels = style.new(rows, columns, width=3.9 * columns, height=2.8 * rows, squeeze=False)
  for axes in panels.flat[len(parts) :]:
    axes.set_visible(False)
  said = []
  for axes, (title, label, points) in zip(panels.flat, parts):
    axes.axhline(0, color=INK, lw=0.9)
    colours = style.ramp(sorted(points['group'].unique()))
    for group, run in points.groupby('group'):
      for held, some in run.groupby('held_out'):
        bars = 1.96 * some['stderr']
        face = {'mfc': 'white', 'color': ACCENT} if held else {'color': colours[group]}
        axes.errorbar(
          some['x'], some['residual'], bars, ls='none', marker='o', ms=4, lw=0.9, **face
        )
    x = points['x']
    if x.max() <= 1:
      style.percent_axis(axes.xaxis)
    else:
      style.log_axis(axes.xaxis, x.min(), x.max(), ticks=style.few(x, 5))
    axes.set_title(title)
    axes.set_xlabel(label)
    fitted = points.loc[~points['held_out'], 'residual']
    said.append(f'{title}: {np.sqrt(np.mean(fitted**2)):.1f} (root mean square, n = {len(fitted)})')
  for axes in panels[:, 0]:
    axes.set_ylabel('measured less fitted, × 100')
  said = '; '.join(said) + '. Dark to light: small models to large, or RL runs. '
  said += 'Open: held out. Bars: 95 % of the measurement alone.'
  return Drawing('residuals', 'Residuals of the laws', figure, said)


def _residuals(x, measured, fitted, group, stderr=0.0, held_out=False):
  """The points of a panel; residuals and errors times 100."""
  rows = {'x': x, 'residual': 100 * (np.asarray(measured) - np.asarray(fitted)), 'group': group}
  return pd.DataFrame(rows | {'stderr': 100 * stderr, 'held_out': held_out})


def _loss_residuals(reading):
  losses, law = most_pretrained(reading.losses), reading.loss_fit  # the bases that it is of
  if law is None:
    return None
  value = losses['value']
  points = _residuals(
    losses['tokens'], np.log(value), np.log(predict(law, losses)), losses['params_non_embedding'],
    losses['stderr'].fillna(0) / value, losses['held_out'],
  )  # fmt: skip
  return 'loss, %', 'SFT tokens', points


def _rl_residuals(reading):
  parts = []
  for key, law in reading.rl_fits.items():
    once = reading.changes[(reading.changes['k'] == 1)]
    rows = once[(once[RUN] == list(key)).all(axis=1)]
    stderr = (rows['value_high'] - rows['value_low']) / 3.92
    held = (rows['rl_flops'] == rows['rl_flops'].max()) & (law.holdout_error is not None)
    group = f'{key[0]} {key[2]:012.0f} {key[3]}'
    parts.append(
      _residuals(rows['rl_flops'], rows['value'], predict(law, rows), group, stderr, held)
    )
  return ('RL, points of pass@1', 'RL FLOPs', pd.concat(parts)) if parts else None


def _joint_residuals(reading):
  """Panels of the joint laws of pass@k and of majority@k, each at the largest k."""
  found = []
  for law, values, predicted, name in (
    (reading.joint, 'oracle', predict_pass_at_k, 'pass@k'),
    (reading.majority, 'majority', predict_majority, 'majority@k'),
  ):
    if law is None:
      continue
    by_problem = np.nanmean(getattr(reading.quality, values), axis=1)
    rows = reading.quality.splits
    keep = ((rows['sft_tokens'] > 0) & (rows['k'] == rows['k'].max())).to_numpy()
    rows, by_problem = rows[keep], by_problem[keep]
    where = (rows[x].to_numpy() for x in (*COLUMNS.values(), 'k'))
    fitted = predicted(law, *where)[0]
    stderr = by_problem.std(1, ddof=1) / np.sqrt(by_problem.shape[1])
    points = _residuals(
      fitted, by_problem.mean(1), fitted, rows['params_non_embedding'].to_numpy(), stderr
    )
    found.append(
      (f'joint, points of {name}'.replace('@k', f'@{rows["k"].max()}'), 'fitted', points)
    )
  return found
