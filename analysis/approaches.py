"""How the compute-optimal size grows with compute: Chinchilla's approaches 1 and 2 (2203.15556).

    python -m analysis.approaches TABLE.csv '--columns=C=flop,N=params,L=loss' --budget=1e23

N_opt is proportional to C^a and D_opt to C^b, a + b = 1 where C = 6 N D. Approach 1 reads the
envelope of training curves, 2 the minima of parabolas at equal FLOPs. Approach 3 is a fit of the
law chinchilla, of which a = beta / (alpha + beta): see `analysis.fit`.
"""

import sys
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import columns as tables
from analysis.errors import BadInput

POINTS = 1500  # budgets at which the envelope is read, as published


class Growth(NamedTuple):
  """Exponents of the compute-optimal parameters and tokens, with 95 % intervals."""

  a: float  # of N_opt in C
  b: float  # of D_opt
  a_interval: tuple
  b_interval: tuple
  optima: pd.DataFrame  # C, N, D and L of the best size at each budget
  left_out: tuple  # (budget, why)
  lines: np.ndarray  # [n, 2]: slope and intercept of log N over log C, of each resample


def isoflop(table, columns: dict, tolerance: float = 0.05, bootstrap: int = 500, seed=0) -> Growth:
  """Approach 2: at each budget a parabola of the loss in log N; a line through the minima's logs.

  columns: C, N, L -> columns or expressions, a row a finished run. Runs whose C differ by less than
  `tolerance`, relatively, from the next are one budget. A budget is left out, and listed, where it
  has fewer than 4 sizes or its parabola has no minimum among them. Intervals are percentiles over
  runs resampled within each budget. BadInput where fewer than 2 budgets are left.
  """
  C, N, L = _arrays(table, columns, ('C', 'N', 'L'))
  order = np.argsort(C, kind='stable')
  C, N, L = C[order], N[order], L[order]
  budget = np.cumsum(np.diff(np.log(C), prepend=np.log(C[0])) > np.log1p(tolerance))
  rows, left_out, groups = [], [], []
  for group in range(budget.max() + 1):
    here = budget == group
    middle = float(np.exp(np.mean(np.log(C[here]))))
    sizes = len(np.unique(N[here]))
    size, loss = _lowest(N[here], L[here]) if sizes > 3 else (np.nan, np.nan)
    if np.isnan(size):
      why = 'fewer than 4 sizes' if sizes < 4 else 'no minimum among its sizes'
      left_out.append((middle, why))
      continue
    rows.append((middle, size, middle / 6 / size, loss))
    groups.append(here)
  optima = pd.DataFrame(rows, columns=['C', 'N', 'D', 'L'])
  if len(optima) < 2:
    raise BadInput(
      f'isoflop: {len(optima)} of {budget.max() + 1} budgets have a minimum among 4 sizes or more; '
      'it takes 2: add sizes, or change tolerance'
    )
  log_C = np.log(optima['C'].to_numpy())
  rng, draws = np.random.default_rng(seed), []
  for _ in range(bootstrap):
    picks = [rng.choice(np.flatnonzero(here), here.sum()) for here in groups]
    sizes = np.log([_lowest(N[p], L[p])[0] for p in picks])
    found = np.isfinite(sizes)
    if found.sum() > 1:
      draws.append(np.polyfit(log_C[found], sizes[found], 1))
  return _growth(log_C, np.log(optima['N'].to_numpy()), draws, optima, tuple(left_out))


def envelope(table, columns: dict, bootstrap: int = 200, seed: int = 0) -> Growth:
  """Approach 1: the run with the lowest loss at each of 1500 budgets; a line through their logs.

  columns: run, C, N, L -> columns or expressions: points of training curves, C being spent so far.
  Curves are interpolated in log C. Budgets count that two runs or more have reached. Intervals are
  percentiles over runs resampled whole. BadInput where curves do not overlap or one size is best.
  """
  _, C, N, L = _arrays(table, columns, ('run', 'C', 'N', 'L'))
  run = pd.factorize(tables.resolve(columns['run'], pd.DataFrame(table), columns))[0]
  at = np.linspace(np.log(C.min()), np.log(C.max()), POINTS)
  losses, sizes = np.full((run.max() + 1, POINTS), np.inf), np.zeros(run.max() + 1)
  for i in range(run.max() + 1):
    here = np.flatnonzero(run == i)[np.argsort(C[run == i], kind='stable')]
    sizes[i] = N[here[0]]
    losses[i] = np.interp(at, np.log(C[here]), L[here], np.inf, np.inf)

  def best(some):
    reached = np.isfinite(losses[some]).sum(axis=0) > 1
    return reached, some[np.argmin(losses[some], axis=0)]

  reached, winner = best(np.arange(len(sizes)))
  chosen = sizes[winner][reached]
  if len(np.unique(chosen)) < 2:
    raise BadInput('envelope: training curves of 2 sizes or more must cross: add sizes or budgets')
  C_opt = np.exp(at[reached])
  lowest = losses[winner, np.arange(POINTS)][reached]
  optima = pd.DataFrame({'C': C_opt, 'N': chosen, 'D': C_opt / 6 / chosen, 'L': lowest})
  rng, draws = np.random.default_rng(seed), []
  for _ in range(bootstrap):
    some, runs = best(rng.integers(0, len(sizes), len(sizes)))
    if len(np.unique(sizes[runs][some])) > 1:
      draws.append(np.polyfit(at[some], np.log(sizes[runs][some]), 1))
  return _growth(at[reached], np.log(chosen), draws, optima, ())


def optimum(growth: Growth, C) -> tuple:
  """(N, low, high) at each budget C by the line of approach 1 or 2, 95 % over its resamples."""
  x = np.log(np.asarray(C, float))
  middle = np.polyfit(np.log(growth.optima['C']), np.log(growth.optima['N']), 1)
  if not len(growth.lines):
    return np.exp(np.polyval(middle, x)), np.full_like(x, np.nan), np.full_like(x, np.nan)
  all_ = growth.lines[:, :1] * x.reshape(1, -1) + growth.lines[:, 1:]
  low, high = np.quantile(all_, [0.025, 0.975], axis=0).reshape(2, *x.shape)
  return np.exp(np.polyval(middle, x)), np.exp(low), np.exp(high)


def _arrays(table, columns, names):
  """Positive numbers of each; None of a run, which is a name."""
  if missing := [name for name in names if name not in columns]:
    raise BadInput(f'columns: {", ".join(missing)} not given; it takes {", ".join(names)}')
  frame = pd.DataFrame(table)
  return [
    None if name == 'run' else tables.numbers(frame, columns[name], columns, True) for name in names
  ]


def _lowest(N, L):
  """(size, loss) at the minimum of a parabola in log N; NaN where none lies among the sizes."""
  x = np.log(N)
  if len(np.unique(x)) < 3:
    return np.nan, np.nan
  c2, c1, c0 = np.polyfit(x - x.mean(), L, 2)
  place = -c1 / (2 * c2)
  if c2 <= 0 or not x.min() <= place + x.mean() <= x.max():
    return np.nan, np.nan
  return float(np.exp(place + x.mean())), float(c0 - c1**2 / (4 * c2))


def _growth(log_C, log_N, draws, optima, left_out):
  a, lines = float(np.polyfit(log_C, log_N, 1)[0]), np.array(draws).reshape(-1, 2)
  return Growth(a, 1 - a, *_ends(lines[:, 0]), optima, left_out, lines)


def _ends(draws):
  if not len(draws):
    return (np.nan, np.nan), (np.nan, np.nan)
  low, high = np.quantile(draws, [0.025, 0.975]).tolist()
  return (low, high), (1 - high, 1 - low)


if __name__ == '__main__':
  from analysis import approaches_command

  sys.exit(approaches_command.main(sys.argv[1:]))
