"""Where fits begin: a grid over a law's nonlinear parameters; the linear ones by least squares.

Which parameters are linear is read off the law's second derivatives (variable projection without
a word from the law's author).
"""

import itertools

import numpy as np
from scipy.stats import qmc

from analysis import jets
from analysis.errors import BadInput
from analysis.laws import Law

MOST = 2000  # points of a grid
SCATTERED = 600  # points where a parameter has no grid
SPAN = 10  # points over the range of an input


def linear_parameters(law: Law, inputs, free) -> list[int]:
  """Indices of free parameters in which, together, the law is linear."""
  y = _differentiated(law, inputs)
  curved, found = set(y.second), []
  for i in np.flatnonzero(free):
    if i in y.first and all((min(i, j), max(i, j)) not in curved for j in [*found, i]):
      found.append(int(i))
  return found


def additive(law: Law, inputs) -> np.ndarray:
  """Whether each parameter is only added, as a floor is: its derivative is 1 everywhere."""
  slopes = _differentiated(law, inputs).first
  return np.array([isinstance(slopes.get(i), float) for i in range(len(law.params))])


def _differentiated(law, inputs):
  """The law at one point, its derivatives those that are not zero by construction."""
  middle = [_middle(p) for p in law.params]
  with np.errstate(all='ignore'):
    y = law.function(*jets.variables(middle, 2), *[x[:1] for x in inputs])
  if not isinstance(y, jets.Jet):
    raise BadInput(f'law {law.name}: its result does not depend on its parameters')
  return y


def propose(law: Law, inputs, output, weights, free, fixed: dict) -> np.ndarray:
  """Parameters [S, P] to start from. weights [n] multiply residuals of the linear regressions."""
  if law.propose:  # of laws with outputs above 0
    above = np.where(output > 0, output, np.min(output[output > 0], initial=1.0))
    rows = np.array(law.propose(inputs, above), np.float64)
    rows = np.clip(rows, [p.lower for p in law.params], [p.upper for p in law.params])
    return _hold(law, rows, fixed)
  linear = linear_parameters(law, inputs, free)
  others = [i for i in np.flatnonzero(free) if i not in linear]
  rows = np.array([_middle(p) for p in law.params])[None]
  if others:
    points = _points([law.params[i] for i in others], dict(zip(law.inputs, inputs)))
    rows = rows.repeat(len(points), axis=0)
    rows[:, others] = points
  rows = _hold(law, rows, fixed)
  return _project(law, inputs, output, weights, rows, linear) if linear else rows


def _hold(law, rows, fixed):
  for i, p in enumerate(law.params):
    rows[:, i] = fixed.get(p.name, rows[:, i])
  return np.unique(rows, axis=0)


def _middle(p):
  if p.lower > 0:
    return float(np.exp((np.log(max(p.lower, 1e-3)) + np.log(min(p.upper, 1e3))) / 2))
  return float(np.clip(0.37, p.lower, p.upper))


def _points(params, inputs) -> np.ndarray:
  """[S, len(params)]: the product of the grids, or points scattered where there are none."""
  grids = []
  for p in params:
    if p.grid is None:
      return _scattered(params, inputs)
    grid = p.grid
    if isinstance(grid, str):
      x = inputs[grid][inputs[grid] > 0]
      grid = np.geomspace(x.min() / 3, x.max() * 10, SPAN)
    grids.append(np.clip(grid, p.lower, p.upper))
  points = np.array(list(itertools.product(*grids)), np.float64)
  if len(points) > MOST:
    points = points[np.random.default_rng(0).choice(len(points), MOST, replace=False)]
  return points


def _scattered(params, inputs) -> np.ndarray:
  """Points over the bounds; where these are wide, as exponents go or as the inputs do."""
  cube = qmc.Sobol(len(params), seed=0).random(1 << (SCATTERED - 1).bit_length())
  size = np.abs(np.concatenate([x.ravel() for x in inputs.values()]))
  size = size[size > 0]
  few, wide = (1e-2, 10.0), (size.min() / 10, size.max() * 10)
  points = np.empty_like(cube)
  for i, p in enumerate(params):
    if p.grid is not None and not isinstance(p.grid, str):
      points[:, i] = np.asarray(p.grid)[(cube[:, i] * len(p.grid)).astype(int)]
      continue
    if np.isfinite([p.lower, p.upper]).all() and (p.lower <= 0 or p.upper / p.lower < 1e4):
      u = cube[:, i]
      inside = (
        p.lower * (p.upper / p.lower) ** u if p.lower > 0 else p.lower + u * (p.upper - p.lower)
      )
      points[:, i] = inside
      continue
    half = cube[:, i] < 0.5
    u = np.where(half, cube[:, i], cube[:, i] - 0.5) * 2
    span = lambda low, high, u: low * (high / low) ** u
    value = np.where(half, span(*few, u), span(*wide, u))
    if p.lower < 0:  # of both signs
      value = value * np.where(np.arange(len(u)) % 2, 1, -1)
    points[:, i] = np.clip(value, p.lower, p.upper)
  return points


def _project(law, inputs, output, weights, rows, linear) -> np.ndarray:
  """The rows with their linear parameters by weighted least squares, inside the bounds."""

  def at(values):
    with np.errstate(all='ignore'):
      f = law.function(*values.T[:, :, None], *inputs)
    return np.broadcast_to(f, (len(values), len(output)))

  none = rows.copy()
  none[:, linear] = 0
  offset = at(none)
  columns = []
  for i in linear:
    one = none.copy()
    one[:, i] = 1
    columns.append((at(one) - offset) * weights)
  design = np.stack(columns, axis=2)  # [S, n, linear]
  right = (output - offset) * weights
  size = np.sqrt(np.sum(design**2, axis=1))
  good = np.isfinite(size).all(axis=1) & np.isfinite(right).all(axis=1)
  rows, design, right, size = rows[good], design[good], right[good], size[good]
  size = np.where(size > 0, size, 1.0)
  solution = (np.linalg.pinv(design / size[:, None], rcond=1e-8) @ right[:, :, None])[:, :, 0]
  least = 1e-3 * np.abs(solution).max(axis=1) + 1e-12
  for column, i in enumerate(linear):
    p, x = law.params[i], solution[:, column]
    x = np.maximum(x, least) if p.lower > 0 else x
    rows[:, i] = np.clip(x / size[:, column], p.lower, p.upper)
  return rows
