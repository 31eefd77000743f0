"""Which law of RL foretells the rest of a run: log-linear, a sigmoid, or a power law?

The gold reward of each run's own samples, by windows of updates, is fitted over the responses drawn
so far up to a share of them, and the laws are scored on what came after:

    log_linear     R = a + b log C
    sigmoid        R = R_0 + (A - R_0) / (1 + (C_mid / C)^B)    (ScaleRL, 2510.13786; R_0 measured)
    rising_power   R = A - B C^-alpha

`python -m analysis.reinforcement` prints and draws this.
"""

import itertools
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import style
from analysis.errors import BadInput
from analysis.fit import Fit, fit, predict
from analysis.style import INK, MUTED, counted

LAWS = {
  'log_linear': {'x': 'samples', 'y': 'gold'},
  'sigmoid': {'C': 'samples', 'R': 'gold'},
  'rising_power': {'C': 'samples', 'R': 'gold'},
}
NAMES = {'log_linear': 'log-linear', 'sigmoid': 'sigmoid', 'rising_power': 'power law'}
LINES = {
  'log_linear': ('#0072b2', 1.6),
  'sigmoid': ('#d55e00', 1.6),
  'rising_power': ('#009e73', 3.2),
}
WINDOW = 10  # updates that a point is the mean of
SHARE = 0.5  # of the responses, that laws are fitted on
ENOUGH = 5  # seeds of which resamples say how far others would differ
LEAST = 6  # windows of a seed


class Compared(NamedTuple):
  """The laws of one run."""

  points: pd.DataFrame  # seed, samples, gold: of each window
  cut: float  # samples: up to here laws are fitted
  begun: float  # R_0
  fits: dict[str, Fit]  # of LAWS, fitted below the cut and scored above it
  naive: tuple[float, float]  # see `carried_on`
  whole: Fit  # the sigmoid of all windows


def windows(run: pd.DataFrame) -> pd.DataFrame:
  """seed, samples, gold of each whole window of updates: the responses drawn up to its middle, and
  the mean gold. run: rows of `reinforcement.curves` of one run."""
  rows = []
  for seed, one in run.groupby('seed'):
    drawn = one['samples'].to_numpy(np.float64)
    drawn = drawn - np.diff(drawn, prepend=0) / 2
    whole = len(one) // WINDOW * WINDOW
    mean = lambda x, whole=whole: np.asarray(x)[:whole].reshape(-1, WINDOW).mean(axis=1)
    rows.append(pd.DataFrame({'seed': seed, 'samples': mean(drawn), 'gold': mean(one['gold'])}))
  return pd.concat(rows, ignore_index=True)


def carried_on(points: pd.DataFrame, cut: float) -> tuple[float, float]:
  """The error above the cut, root mean square, where gold stays as it was: at the mean of the
  seeds' last windows below the cut, and at each seed's own. points: of `windows`."""
  held = points['samples'] > cut
  last = points[~held].groupby('seed')['gold'].last()
  rest, own = points.loc[held, 'gold'], points.loc[held, 'seed'].map(last)
  return tuple(float(np.sqrt(np.mean((rest - guess) ** 2))) for guess in (last.mean(), own))


def compare(run: pd.DataFrame, bootstrap: int = 200) -> Compared | None:
  """The laws of one run, or None where a seed has fewer than LEAST windows, or all gold is equal.

  Resamples are of seeds where there are 3 or more, else of windows.
  """
  points = windows(run)
  if points.groupby('seed').size().min() < LEAST or points['gold'].nunique() == 1:
    return None
  cut = SHARE * points['samples'].max()
  begun = float(points.groupby('seed').head(1)['gold'].mean())
  options = {'loss': 'squares', 'bootstrap': bootstrap}
  if points['seed'].nunique() >= 3:
    options['clusters'] = 'seed'
  fixed = {'sigmoid': {'R_0': begun}}
  held = points['samples'].to_numpy() > cut
  found = {
    law: fit(law, points, columns, holdout=held, fixed=fixed.get(law), **options)
    for law, columns in LAWS.items()
  }
  whole = fit('sigmoid', points, LAWS['sigmoid'], fixed=fixed['sigmoid'], **options)
  return Compared(points, cut, begun, found, carried_on(points, cut), whole)


def words(name: str, found: Compared) -> list[str]:
  """What came out, in two sentences."""
  errors = ', '.join(
    f'{NAMES[law]} {100 * one.holdout_error:.1f}' for law, one in found.fits.items()
  )
  first = next(iter(found.fits.values()))
  seeds = found.points['seed'].nunique()
  pooled, own = (f'{100 * error:.1f}' for error in found.naive)
  stays = f'the last window fitted by {own}'
  if seeds > 1:
    stays = f"the mean of the seeds' last windows fitted by {pooled}, each seed's own by {own}"
  said = [
    f'{name}: laws of gold fitted on the first {SHARE:.0%} of the responses ({first.rows} windows '
    f'of {WINDOW} updates, {counted(seeds, "seed")}) miss the rest by {errors} points '
    f'(RMSE); {stays}.'
  ]
  A = found.whole.params['A']
  if 'A' in found.whole.unidentified:
    said.append(f'The ceiling of the sigmoid is {found.whole.unidentified["A"]}.')
  else:
    low, high = found.whole.intervals['A']
    A, low, high = map(style.percent, (A, low, high))
    few = f'; too narrow, as it resamples {counted(seeds, "seed")}' * (1 < seeds < ENOUGH)
    said.append(f'The ceiling of the sigmoid, of all windows: {A} (95 % {low} to {high}{few}).')
  return said


@style.styled
def draw(name: str, found: Compared):
  """Windows of all seeds, and the laws: solid where they were fitted, dashed beyond."""
  figure, axes = style.new()
  points = found.points
  for mark, (seed, one) in zip(itertools.cycle('os^vDP*X'), points.groupby('seed')):
    axes.plot(one['samples'], one['gold'], mark, color=MUTED, ms=3, alpha=0.6, label=f'seed {seed}')
  grid = np.geomspace(points['samples'].min(), points['samples'].max(), 200)
  for law, one in found.fits.items():
    column = next(iter(one.columns.values()))
    colour, width = LINES[law]
    for part, line in ((grid <= found.cut, '-'), (grid >= found.cut, '--')):
      table = pd.DataFrame({column: grid[part]})
      missed = f'{NAMES[law]}, misses by {100 * one.holdout_error:.1f} points'
      label = missed if line == '-' else None
      axes.plot(
        grid[part], predict(one, table), line, color=colour, lw=width, label=label, zorder=4 - width
      )
  axes.axvline(found.cut, color=INK, lw=0.8, ls=':')
  style.log_axis(axes.xaxis, points['samples'].min(), points['samples'].max(), 'responses')
  style.percent_axis(axes.yaxis)
  axes.set_xlabel('responses drawn; fitted on those left of the line')
  axes.set_ylabel(f'gold, windows of {WINDOW} updates')
  axes.set_title(name, color=INK)
  axes.legend()
  return figure


def of_runs(found: pd.DataFrame, by: list[str]) -> dict[tuple, Compared]:
  """The values of `by` of a run -> its laws, of the runs that are long enough."""
  done = {}
  for key, run in found.groupby(by, sort=False):
    try:
      one = compare(run)
    except BadInput:  # too few windows below the cut for a law's parameters
      continue
    if one is not None:
      done[key] = one
  return done
