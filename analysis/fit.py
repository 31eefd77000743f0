"""Fits a law to a table: robust loss, many starts, bootstrap intervals, held-out error. Float64.

The minimiser is Levenberg-Marquardt, run for all starts and all bootstrap resamples at once, with
exact derivatives by a complex step (the law evaluated at parameter + ih; imaginary part / h).
"""

from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis.errors import BadInput
from analysis.laws import LAWS, Law

BASELINE = 'the value of the fitted row nearest in log inputs'


class Fit(NamedTuple):
  """A fitted law. Bootstrap samples are [n, P] in the law's order of parameters."""

  law: str
  columns: dict  # law's input or output -> column
  params: dict
  intervals: dict  # parameter -> (low, high), 95 %; empty without a bootstrap
  unidentified: dict  # parameter -> why these data do not identify it
  objective: float  # sum over rows: Huber, or squares
  loss: str
  rows: int  # rows fitted
  dropped: tuple  # (row, why)
  holdout_error: float | None  # RMSE on held-out rows: of log prediction, or raw, as the loss is
  baseline_error: float | None  # the same of BASELINE
  samples: np.ndarray

  @property
  def identified(self) -> dict:
    """Parameter -> whether these data identify it."""
    return {name: name not in self.unidentified for name in self.params}


class _Problem(NamedTuple):
  law: Law
  inputs: list
  output: np.ndarray
  sigma: np.ndarray  # divides residuals, in their units
  log: bool
  delta: float  # Huber's; infinite for squares
  lower: np.ndarray  # bounds of theta
  upper: np.ndarray
  logged: np.ndarray  # theta is the log of the parameter
  free: np.ndarray


def fit(
  law: str | Law,
  table,
  columns: dict,
  *,
  loss: str = 'huber_log:1e-3',
  bootstrap: int = 200,
  clusters: str | None = None,
  holdout=None,
  se: str | None = None,
  fixed: dict | None = None,
  missing: str = 'error',
  seed: int = 0,
) -> Fit:
  """Fits `law` to `table` (DataFrame or dict of arrays) by minimising the summed loss of residuals.

  columns: the law's inputs and output -> columns. loss: 'huber_log[:delta]' (residuals of the
  log, delta 1e-3 unless said), 'huber[:delta]' (raw), 'squares_log' or 'squares'. se: a column of
  standard errors that divide the residuals (delta is then in their units).

  bootstrap: resamples of the rows, or of whole values of the column `clusters` (a trunk, a seed),
  each refitted from the optimum and two starts beside it; resamples with fewer distinct points
  than parameters are drawn again. A parameter whose 95 % interval reaches a bound, or spans a
  ratio above 1e3, goes into `unidentified`. holdout: boolean per row, kept out of the fit and
  scored against BASELINE. fixed: parameter -> value not fitted. missing: 'error', or 'drop' the
  rows with a missing value and list them.

  BadInput, one line, for: a column that is not there, a cell that is no number, NaN, a value that
  is not positive where a log is taken, an input all equal, fewer distinct points than parameters.
  """
  law = LAWS[law] if isinstance(law, str) else law
  frame = pd.DataFrame(table).reset_index(drop=True)
  log, delta = _parse_loss(loss)
  arrays, frame, held, dropped = _read(law, frame, columns, log, se, clusters, holdout, missing)
  fixed = dict(fixed or {})
  free = np.array([p.name not in fixed for p in law.params])
  known = [p.name for p in law.params]
  for name in fixed:
    if name not in known:
      raise BadInput(f'fixed: {law.name} has no parameter {name!r}; it has {", ".join(known)}')

  kept = ~held
  if not kept.any():
    raise BadInput('no row is left to fit: the table is empty, or all of it is held out')
  points = np.stack([arrays[name][kept] for name in law.inputs], axis=1)
  unique, which = np.unique(points, axis=0, return_inverse=True)
  for i, name in enumerate(law.inputs):
    if np.ptp(points[:, i]) == 0:
      raise BadInput(f'column {columns[name]!r}: all values are equal, so {law.name} has no slope')
  if len(unique) < free.sum():
    raise BadInput(
      f'{len(unique)} distinct points for {free.sum()} parameters of {law.formula}: add points'
    )
  logged = np.array([p.lower > 0 for p in law.params])
  sigma = arrays['se'] if se else np.ones(len(frame))
  if se and log:
    sigma = sigma / arrays[law.output]
  with np.errstate(divide='ignore', invalid='ignore'):
    bound = lambda values: np.where(logged, np.log(values), values)
    problem = _Problem(
      law=law,
      inputs=list(points.T),
      output=arrays[law.output][kept],
      sigma=sigma[kept],
      log=log,
      delta=delta,
      lower=bound(np.array([p.lower for p in law.params])),
      upper=bound(np.array([p.upper for p in law.params])),
      logged=logged,
      free=free,
    )
  starts = np.array(law.starts(problem.inputs, problem.output), np.float64)
  for i, name in enumerate(known):
    starts[:, i] = fixed.get(name, starts[:, i])
  starts = np.clip(starts, [p.lower for p in law.params], [p.upper for p in law.params])
  starts = np.where(logged, np.log(np.where(logged, starts, 1)), starts)
  theta, cost = _minimise(problem, starts, np.ones((len(starts), len(points))))
  if not np.isfinite(cost).any():
    raise BadInput(f'{law.name}: no start has a finite {loss} loss; use a loss of raw residuals')
  best = theta[np.argmin(cost)]

  samples = np.zeros((0, len(known)))
  if bootstrap:
    labels = frame[clusters].to_numpy()[kept] if clusters else None
    weights = _resample(labels, which, int(free.sum()), bootstrap, seed, clusters)
    samples = _parameters(problem, _refit(problem, best, weights, seed))
  params = dict(zip(known, _parameters(problem, best).tolist(), strict=True)) | fixed
  intervals = {}
  if bootstrap:
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    intervals = {name: (float(low[i]), float(high[i])) for i, name in enumerate(known)}
  squares = 1.0 if np.isfinite(delta) else 2.0
  result = Fit(
    law=law.name,
    columns=dict(columns),
    params=params,
    intervals=intervals,
    unidentified=_unidentified(law, params, intervals, fixed),
    objective=float(cost.min() * squares),
    loss=loss,
    rows=int(kept.sum()),
    dropped=dropped,
    holdout_error=None,
    baseline_error=None,
    samples=samples,
  )
  if not held.any():
    return result
  predicted = law.function(*params.values(), *[arrays[name][held] for name in law.inputs])
  nearest = _nearest(points, np.stack([arrays[name][held] for name in law.inputs], axis=1))
  actual = arrays[law.output][held]
  return result._replace(
    holdout_error=_rmse(predicted, actual, log),
    baseline_error=_rmse(problem.output[nearest], actual, log),
  )


def predict(fit: Fit, table) -> np.ndarray:
  """The law's prediction at each row of `table`, which has the columns of the fit's inputs."""
  return LAWS[fit.law].function(*fit.params.values(), *_inputs(fit, table))


def predict_interval(fit: Fit, table, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
  """Percentile interval (low, high) of the curve, from the bootstrap; not of a new measurement."""
  if not len(fit.samples):
    raise BadInput('this fit has no bootstrap samples: fit with bootstrap=200')
  curves = LAWS[fit.law].function(*fit.samples.T[:, :, None], *_inputs(fit, table))
  low, high = np.quantile(curves, [(1 - level) / 2, (1 + level) / 2], axis=0)
  return low, high


def _inputs(fit, table):
  frame = pd.DataFrame(table)
  return [_numbers(frame, fit.columns[name], positive=True) for name in LAWS[fit.law].inputs]


def _parse_loss(loss):
  name, _, delta = loss.partition(':')
  if name in ('squares', 'squares_log') and not delta:
    return name == 'squares_log', np.inf
  try:
    value = float(delta or 1e-3)
  except ValueError:
    value = 0.0
  if name not in ('huber', 'huber_log') or not value > 0:
    raise BadInput(f'loss {loss!r}: one of huber_log[:delta], huber[:delta], squares_log, squares')
  return name == 'huber_log', value


def _read(law, frame, columns, log, se, clusters, holdout, missing):
  """Checked float64 arrays by name, the rows they came from, who is held out, what was dropped."""
  names = [*law.inputs, law.output]
  if sorted(columns) != sorted(names):
    raise BadInput(f'columns: {law.name} needs {", ".join(names)}; given {", ".join(columns)}')
  wanted = {**{name: columns[name] for name in names}, **({'se': se} if se else {})}
  for column in [*wanted.values(), *([clusters] if clusters else [])]:
    if column not in frame:
      raise BadInput(f'column {column!r} is not there; there are {", ".join(map(str, frame))}')
  held = np.zeros(len(frame), bool) if holdout is None else np.asarray(holdout)
  if held.shape != (len(frame),) or held.dtype != bool:
    raise BadInput(f'holdout: give {len(frame)} booleans, one a row; shape is {held.shape}')
  if missing not in ('error', 'drop'):
    raise BadInput(f"missing {missing!r}: either 'error' or 'drop'")
  dropped = ()
  if missing == 'drop':
    gaps = frame[list(wanted.values())].isna()
    dropped = tuple(
      (int(row), f'{gaps.columns[gaps.loc[row]][0]} is missing')
      for row in frame.index[gaps.any(axis=1)]
    )
    keep = ~gaps.any(axis=1)
    frame, held = frame[keep], held[keep]
  arrays = {
    name: _numbers(frame, column, positive=name != law.output or log)
    for name, column in wanted.items()
  }
  return arrays, frame, held, dropped


def _numbers(frame, column, positive):
  """A column as finite float64, BadInput naming the first row (counted from 0) that is not."""
  if column not in frame:
    raise BadInput(f'column {column!r} is not there; there are {", ".join(map(str, frame))}')
  values = pd.to_numeric(frame[column], errors='coerce').to_numpy(np.float64, na_value=np.nan)
  bad = ~np.isfinite(values)
  if positive:
    bad |= values <= 0
  if bad.any():
    i = int(np.argmax(bad))
    cell, row = frame[column].iloc[i], frame.index[i]
    why = 'is not a finite number' if not np.isfinite(values[i]) else 'must be positive for a log'
    shown = repr(cell) if isinstance(cell, str) else str(cell)
    raise BadInput(f'column {column!r}, row {row}: {shown} {why}')
  return values


def _parameters(problem, theta):
  return np.where(problem.logged, np.exp(np.where(problem.logged, theta, 0)), theta)


def _residuals(problem, theta, jacobian):
  """Residuals [b, n] at theta [b, P]; with `jacobian` also their derivatives [b, n, P]."""

  def evaluate(t):
    values = [np.exp(t[:, [j]]) if problem.logged[j] else t[:, [j]] for j in range(t.shape[1])]
    y = problem.law.function(*values, *problem.inputs)
    difference = np.log(y) - np.log(problem.output) if problem.log else y - problem.output
    return difference / problem.sigma

  with np.errstate(all='ignore'):
    residuals = evaluate(theta)
    if not jacobian:
      return residuals
    slopes = np.zeros((*residuals.shape, theta.shape[1]))
    for j in np.flatnonzero(problem.free):
      step = np.zeros(theta.shape[1], np.complex128)
      step[j] = 1e-30j
      slopes[:, :, j] = evaluate(theta + step).imag / 1e-30
  return residuals, slopes


def _cost(residuals, weights, delta):
  size = np.nan_to_num(np.abs(residuals), nan=np.inf, posinf=np.inf)
  inner = np.minimum(size, delta)
  with np.errstate(all='ignore'):
    cost = np.sum(weights * inner * (size - inner / 2), axis=1)
  return np.where(np.isfinite(cost), cost, np.inf)


def _minimise(problem, theta, weights, iterations=300):
  """Damped Newton on the weighted loss from each start: theta [b, P], weights [b, n].

  The curvature is that of the rows within delta; the damping is that of Huber's majoriser, so a
  heavily damped step is a step of iterated reweighted least squares. Bounds by projection.
  """
  theta = theta.copy()
  cost = _cost(_residuals(problem, theta, False), weights, problem.delta)
  damping = np.full(len(theta), 1e-2)
  active = np.flatnonzero(np.isfinite(cost))
  for _ in range(iterations):
    if not len(active):
      break
    t, w = theta[active], weights[active]
    r, J = _residuals(problem, t, True)
    size = np.maximum(np.abs(r), 1e-300)
    gradient = np.einsum('bnp,bn->bp', J, w * np.clip(r, -problem.delta, problem.delta))
    JT = np.swapaxes(J, 1, 2)
    curvature = (JT * (w * (size <= problem.delta))[:, None]) @ J
    major = (JT * (w * np.minimum(1, problem.delta / size))[:, None]) @ J
    diagonal = np.einsum('bpp->bp', major)
    floor = 1e-12 * diagonal.max(axis=1, keepdims=True) + 1e-300
    eye = np.eye(t.shape[1])
    ridge = eye * (diagonal + floor)[:, :, None]
    hessian = curvature + damping[active][:, None, None] * (major + ridge) / 2 + eye * 1e-300
    stuck = ((t <= problem.lower) & (gradient > 0)) | ((t >= problem.upper) & (gradient < 0))
    stuck |= ~problem.free
    hessian = np.where(stuck[:, :, None] | stuck[:, None, :], eye, hessian)
    step = -np.linalg.solve(hessian, np.where(stuck, 0, gradient)[:, :, None])[:, :, 0]
    step = np.where(problem.logged, np.clip(step, -3, 3), step)
    trial = np.clip(t + step, problem.lower, problem.upper)
    new = _cost(_residuals(problem, trial, False), w, problem.delta)
    better = new < cost[active]
    gain = cost[active] - new
    theta[active] = np.where(better[:, None], trial, t)
    done = better & (gain <= 1e-13 * cost[active])
    cost[active] = np.where(better, new, cost[active])
    damping[active] = np.where(better, damping[active] / 5, damping[active] * 4).clip(1e-12, None)
    active = active[~(done | (damping[active] > 1e9))]
  return theta, cost


def _resample(labels, which, needed, n, seed, clusters):
  """Weights [n, rows]: how often each row, or its whole cluster, was drawn."""
  groups = np.arange(len(which)) if labels is None else pd.factorize(labels)[0]
  count = groups.max() + 1
  if count < 2:
    raise BadInput(f'clusters: column {clusters!r} has one value, nothing to resample; use None')
  rng, found = np.random.default_rng(seed), []
  points = np.eye(which.max() + 1)[which]
  for _ in range(200):
    weights = rng.multinomial(count, np.full(count, 1 / count), n)[:, groups]
    found.extend(weights[np.sum(weights @ points > 0, axis=1) >= needed])
    if len(found) >= n:
      return np.array(found[:n], np.float64)
  raise BadInput('bootstrap: resamples hold fewer distinct points than parameters; add points')


def _refit(problem, best, weights, seed, starts=3):
  """The best of `starts` refits of each resample: from the optimum and from beside it."""
  jitter = np.random.default_rng([seed, 1]).normal(0, 0.3, (len(weights), starts, len(best)))
  jitter[:, 0] = 0
  jitter = np.where(problem.logged, jitter, jitter * 0.3 * np.abs(best)) * problem.free
  begin = np.clip(best + jitter, problem.lower, problem.upper)
  thetas = []
  chunk = max(1, 100_000 // (weights.shape[1] * starts))
  for i in range(0, len(weights), chunk):
    part = begin[i : i + chunk]
    theta, cost = _minimise(
      problem, part.reshape(-1, len(best)), np.repeat(weights[i : i + chunk], starts, axis=0)
    )
    pick = cost.reshape(-1, starts).argmin(axis=1)
    thetas.append(theta.reshape(part.shape)[np.arange(len(pick)), pick])
  return np.concatenate(thetas)


def _unidentified(law, params, intervals, fixed):
  reasons = {}
  for p in law.params:
    if p.name in fixed:
      continue
    low, high = intervals.get(p.name, (params[p.name],) * 2)
    if low <= p.lower + 1e-6 * abs(p.lower) or high >= p.upper * (1 - 1e-6):
      reasons[p.name] = f'runs to its bound, {p.lower:g} to {p.upper:g}'
    elif low > 0 and high / low > 1e3:
      reasons[p.name] = f'interval spans a ratio of {high / low:.1g}'
  return {name: f'not identified by these data: {why}' for name, why in reasons.items()}


def _nearest(points, queries):
  distance = np.linalg.norm(np.log(queries)[:, None] - np.log(points)[None], axis=2)
  return distance.argmin(axis=1)


def _rmse(predicted, actual, log):
  error = np.log(predicted) - np.log(actual) if log else predicted - actual
  return float(np.sqrt(np.mean(error**2)))
