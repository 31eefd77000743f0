"""Minimises the summed loss of a law from many starts, or of many resamples, at once. Float64.

Newton's method with exact derivatives (`jets`), damped towards the loss's majoriser, whose step is
one of iterated reweighted least squares: it always descends, where Newton's matrix is indefinite or
Huber's delta leaves few rows inside. Of Huber's loss a step bends as the residuals do (geodesic
acceleration, 1201.5885), for with a small delta they leave it after a short way. A tiny delta is
approached by a sequence of larger ones.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from scipy import special

from analysis import jets
from analysis.errors import BadInput

CELLS = 1 << 17  # of an array [rows of theta, data]: many, for numpy's calls, but within the cache
ROUND = 4  # iterations before the rows that go on are gathered into full chunks; then twice as many
NEXT = 10  # ratio of the deltas by which a tiny one is approached
SHARES = np.array([4.0, 2.0, 1.0, 0.6, 0.3, 0.1, 0.03])  # of a step, that are tried
BENT = 0.75  # longest bend for a step of length 1: beyond, the residuals are no parabola
HUGE = 1e290  # a loss that is not finite
CORES = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


class Loss(NamedTuple):
  """huber[_log] with its delta, squares[_log] (delta infinite), or binomial."""

  name: str
  log: bool  # residuals are of the log
  delta: float

  @property
  def counts(self) -> bool:
    return self.name == 'binomial'


class Problem(NamedTuple):
  """What is minimised over theta [P]: sum over data of weight x loss(function(parameters))."""

  function: Callable  # (*parameters, *inputs) -> prediction
  inputs: list  # arrays [n]
  target: np.ndarray  # output [n] or [b, n]; its log where the loss is of the log; or counts
  scale: np.ndarray  # [n]: divides residuals; of counts, the number of trials
  loss: Loss
  lower: np.ndarray  # [P], of theta
  upper: np.ndarray
  logged: np.ndarray  # theta is the log of the parameter


def parse_loss(text: str) -> Loss:
  """'huber_log:1e-3' -> Loss; BadInput where it is none."""
  name, _, delta = text.partition(':')
  if name in ('squares', 'squares_log', 'binomial') and not delta:
    return Loss(name, name == 'squares_log', np.inf)
  try:
    value = float(delta or 1e-3)
  except ValueError:
    value = 0.0
  if name not in ('huber', 'huber_log') or not 0 < value < np.inf:
    raise BadInput(
      f'loss {text!r}: one of huber_log[:delta], huber[:delta], squares_log, squares, binomial'
    )
  return Loss(name, name == 'huber_log', value)


def parameters(problem: Problem, theta: np.ndarray) -> np.ndarray:
  """theta [..., P] -> parameters."""
  return np.where(problem.logged, np.exp(np.where(problem.logged, theta, 0)), theta)


def thetas(problem: Problem, values: np.ndarray) -> np.ndarray:
  """Parameters [..., P] -> theta, within its bounds."""
  with np.errstate(all='ignore'):
    theta = np.where(problem.logged, np.log(np.where(problem.logged, values, 1)), values)
  return np.clip(theta, problem.lower, problem.upper)


def residuals(problem: Problem, f, target) -> np.ndarray:
  """Of predictions f."""
  return ((np.log(f) if problem.loss.log else f) - target) / problem.scale


def _huber(r, delta):
  size = np.abs(r)
  inner = np.minimum(size, delta)
  return inner * (size - inner / 2)


def _loss(problem, f, target, delta):
  """The loss [b, n] at predictions f, infinite where f is outside its domain."""
  if problem.loss.counts:
    n, c = problem.scale, target
    most = special.xlogy(c, c / n) + special.xlogy(n - c, 1 - c / n)
    return most - special.xlogy(c, f) - special.xlog1py(n - c, -f)
  r = residuals(problem, f, target)
  return r * r if np.isinf(delta) else _huber(r, delta)


def _loss_slopes(problem, f, target, delta):
  """(loss, slope, curve, major, residuals, by_f): the loss, its derivatives by f, all [b, n].

  by_f: of the residuals, by f; counts have neither. `major` is the curve of a parabola in the
  residual that lies above the loss and touches it.
  """
  if problem.loss.counts:
    n, c = problem.scale, target
    f = np.clip(f, 1e-290, 1 - 1e-16)
    yes, no = c / f, (n - c) / (1 - f)
    curve = yes / f + no / (1 - f)
    loss = _loss(problem, f, c, delta)
    return loss, no - yes, curve, n / (f * (1 - f)), None, None
  r = residuals(problem, f, target)
  size = np.abs(r)
  if np.isinf(delta):
    loss, slope, curve, major = r * r, 2 * r, 2.0, 2.0
  else:
    inner = np.minimum(size, delta)
    loss, slope = inner * (size - inner / 2), np.copysign(inner, r)
    curve, major = size <= delta, np.minimum(1, delta / np.maximum(size, 1e-300))
  if not problem.loss.log:
    s = 1 / problem.scale + 0 * r
    return loss, slope * s, curve * s**2, major * s**2, r, s
  by_f = 1 / (f * problem.scale)
  slope = slope * by_f
  square = by_f * by_f
  return loss, slope, curve * square - slope / f, major * square, r, by_f


class _State(NamedTuple):
  """Of each row of theta: the objective and its derivatives by theta."""

  cost: np.ndarray  # [b]
  gradient: np.ndarray  # [b, P]
  hessian: np.ndarray  # [b, P, P]
  major: np.ndarray  # [b, P, P]: above the hessian, from `_loss_slopes`' major
  residuals: np.ndarray  # of Huber's loss [b, n]; else [b, 0]
  slopes: np.ndarray  # [b, P, n], of the prediction by the parameters; else [b, P, 0]
  by_f: np.ndarray  # [b, n], of the residuals by the prediction; else [b, 0]
  unit: np.ndarray  # [b, P], of the parameters by theta


def losses(problem: Problem, theta) -> np.ndarray:
  """The loss of each row of the data [b, n] at theta [b, P]; very large where it is not finite."""
  values = parameters(problem, theta).T[:, :, None]
  with np.errstate(all='ignore'):
    f = problem.function(*values, *problem.inputs)
    loss = _loss(problem, f, problem.target, problem.loss.delta)
  loss = np.broadcast_to(loss, (len(theta), len(problem.scale)))
  return np.nan_to_num(loss, nan=HUGE, posinf=HUGE)


def expand(problem: Problem, theta, weights, target, delta) -> _State:
  """The objective with its derivatives: Newton's matrix, and that of the majoriser.

  theta [b, P], or [1, P] for all rows of the weights [b, n], which is cheaper.
  """
  values = parameters(problem, theta)
  P, n = theta.shape[1], weights.shape[1]
  gather = _gather if len(theta) == len(weights) else _gather_shared
  with np.errstate(all='ignore'):
    y = problem.function(*jets.variables(values.T[:, :, None], 2), *problem.inputs)
    f = np.broadcast_to(y.value, (len(theta), n))
    J = np.zeros((len(theta), P, n))
    for i, x in y.first.items():
      J[:, i] = x
    *slopes, r, by_f = _loss_slopes(problem, f, target, delta)
    cost, gradient, hessian, majoriser = gather(weights, J, y.second, *slopes)
    unit = np.where(problem.logged, values, 1.0)  # d parameter / d theta
    both = unit[:, :, None] * unit[:, None, :]
    gradient = gradient * unit
    hessian, majoriser = hessian * both, majoriser * both
    diagonal = np.arange(P)
    hessian[:, diagonal, diagonal] += np.where(problem.logged, gradient, 0)
    if not np.isfinite(delta):
      r = by_f = np.zeros((len(theta), 0))
      J = J[:, :, :0]
  whole = np.isfinite(cost) & np.isfinite(hessian).all((1, 2)) & np.isfinite(majoriser).all((1, 2))
  return _State(np.where(whole, cost, np.inf), gradient, hessian, majoriser, r, J, by_f, unit)


def _gather(weights, J, second, loss, slope, curve, major):
  """Sums over data of the loss and its derivatives by the parameters, a row of theta each."""
  slope = slope * weights
  JT = np.swapaxes(J, 1, 2)
  hessian = (J * (curve * weights)[:, None]) @ JT
  total = np.sum(slope, axis=1)
  for (i, j), x in second.items():
    extra = np.vecdot(slope, x) if x.shape[-1] > 1 else total * x[..., 0]
    hessian[:, i, j] += extra
    if i != j:
      hessian[:, j, i] += extra
  majoriser = (J * (major * weights)[:, None]) @ JT
  return np.vecdot(weights, loss), (J @ slope[:, :, None])[:, :, 0], hessian, majoriser


def _gather_shared(weights, J, second, loss, slope, curve, major):
  """The same where all rows of the weights are at one theta."""
  loss, slope, curve, major, J = (x[0] for x in (loss, slope, curve, major, J))
  total = lambda x: (weights @ x.reshape(-1, len(slope)).T).reshape(-1, *x.shape[:-1])
  pairs = J[:, None] * J
  curved = pairs * curve
  for (i, j), x in second.items():
    extra = slope * np.broadcast_to(x, (1, len(slope)))[0]
    curved[i, j] += extra
    if i != j:
      curved[j, i] += extra
  return weights @ loss, total(J * slope), total(curved), total(pairs * major)


def solve(matrix: np.ndarray, vector: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """x [b, P] with matrix @ x = vector by Cholesky, and whether each matrix is positive definite."""
  P = vector.shape[1]
  A, x = np.ascontiguousarray(np.moveaxis(matrix, 0, 2)), vector.T.copy()
  good = np.ones(len(vector), bool)
  for j in range(P):
    pivot = A[j, j]
    good &= pivot > 1e-13
    A[j, j] = np.sqrt(np.where(pivot > 1e-13, pivot, 1.0))
    A[j + 1 :, j] /= A[j, j]
    x[j] /= A[j, j]
    x[j + 1 :] -= A[j + 1 :, j] * x[j]
    for i in range(j + 1, P):
      A[i:, i] -= A[i:, j] * A[i, j]
  for j in range(P - 1, -1, -1):
    x[j] = (x[j] - np.sum(A[j + 1 :, j] * x[j + 1 :], axis=0)) / A[j, j]
  return x.T, good


class _Step(NamedTuple):
  """Newton's, and of what it solves: matrix @ (step / unit) = -gradient x unit."""

  step: np.ndarray  # [b, P]
  damping: np.ndarray  # [b]
  matrix: np.ndarray  # [b, P, P]
  unit: np.ndarray  # [b, P]: 1 over theta's scale, 0 of a parameter that stays


def _step(state, damping, still, logged) -> _Step:
  """Newton's step, damped as far as its matrix needs to be positive definite."""
  size = np.sqrt(np.einsum('bpp->bp', state.major))
  size = size + 1e-9 * size.max(axis=1, keepdims=True) + 1e-150
  unit = ~still / size
  both = unit[:, :, None] * unit[:, None, :]
  eye = np.eye(size.shape[1])
  hessian, major = state.hessian * both + eye * still[:, :, None], state.major * both + eye
  gradient = -state.gradient * unit
  damping, step = damping.copy(), np.empty_like(gradient)
  damped = lambda some: hessian[some] + (damping[some] / 2)[:, None, None] * major[some]
  left = np.arange(len(step))
  for _ in range(16):
    step[left], good = solve(damped(left), gradient[left])
    left = left[~good]
    if not len(left):
      break
    damping[left] = np.maximum(damping[left] * 8, 1e-6)
  step[left] = gradient[left] / (1 + damping[left])[:, None]
  step = step * unit
  step = np.where(logged, np.clip(step, -3, 3), step)
  return _Step(step, damping, damped(slice(None)), unit)


def _along(problem, t, newton, state, weights, target, delta):
  """(next [b, P], share [b]): along t + share x step + share^2 x bend, at the best of SHARES.

  Along the step each residual is taken for a parabola: of its value and slope at t, and its value
  at the step's end. The bend makes good what the parabolas of those inside delta add to the
  gradient. Kinks, near which Newton's step ends too early or too late, are the shares' to find.
  """
  step, J, by_f, unit = newton.step, state.slopes, state.by_f, state.unit
  moved = lambda v: v @ J[0] if len(J) == 1 else (v[:, None] @ J)[:, 0]
  times = lambda v: by_f * moved(v * unit)  # what a step adds to the residuals, to first order
  f = problem.function(*parameters(problem, t + step).T[:, :, None], *problem.inputs)
  slope = times(step)
  curve = residuals(problem, f, target) - state.residuals - slope
  inside = np.nan_to_num(np.where(np.abs(state.residuals) <= delta, weights * curve * by_f, 0))
  pull = -(J @ inside[:, :, None])[:, :, 0] * unit
  x, good = solve(newton.matrix, pull * newton.unit)
  scaled = np.where(newton.unit > 0, step / newton.unit, 0)
  good &= np.vecdot(x, x) <= BENT**2 * np.vecdot(scaled, scaled)
  bend = np.where(good[:, None], x * newton.unit, 0)
  curve += times(bend)
  cost = [
    np.vecdot(_huber(state.residuals + s * (slope + s * curve), delta), weights) for s in SHARES
  ]
  share = SHARES[np.argmin(np.nan_to_num(cost, nan=np.inf), axis=0)]
  s = share[:, None]
  return np.clip(t + s * (step + s * bend), problem.lower, problem.upper), share


def _descend(problem, theta, weights, free, delta, damping, iterations, tolerance):
  """(theta, cost, converged, ended, damping) of a chunk; where not ended, more iterations help."""
  best, final, softness = theta.copy(), np.full(len(theta), np.inf), damping.copy()
  settled, ended = np.zeros((2, len(theta)), bool)
  rows, target = np.arange(len(theta)), problem.target
  of_rows = target.ndim == 2
  w, t, y = weights, theta, target
  same = len(t) > 1 and not of_rows and not np.ptp(t, axis=0).any()
  state = expand(problem, t[:1] if same else t, w, y, delta)
  for _ in range(iterations):
    still = ((t <= problem.lower) & (state.gradient > 0)) | (
      (t >= problem.upper) & (state.gradient < 0)
    )
    newton = _step(state, damping, still | ~free, problem.logged)
    trial, damping = np.clip(t + newton.step, problem.lower, problem.upper), newton.damping
    step = trial - t
    curved = np.einsum('bp,bpq,bq->b', step, state.hessian, step)
    promised = -np.vecdot(state.gradient, step) - curved / 2
    small = np.abs(promised) <= tolerance * state.cost
    done = small | (damping > 1e10) | ~np.isfinite(state.cost)
    if done.any():
      best[rows[done]] = np.where(small[:, None], trial, t)[done]
      final[rows[done]] = (state.cost - np.where(small, promised, 0))[done]
      settled[rows[done]], ended[rows[done]] = small[done], True
      keep = ~done
      if not keep.any():
        return best, final, settled, ended, softness
      rows, t, w, trial, damping = rows[keep], t[keep], w[keep], trial[keep], damping[keep]
      y, promised, free, step = y[keep] if of_rows else y, promised[keep], free[keep], step[keep]
      state = _State(*(x[keep] if len(x) == len(keep) else x for x in state))
      newton = _Step(*(x[keep] for x in newton))
    if np.isfinite(delta):
      trial, share = _along(problem, t, newton._replace(step=step), state, w, y, delta)
      promised = promised * np.minimum(share, 1)
    new = expand(problem, trial, w, y, delta)
    ratio = (state.cost - new.cost) / promised
    better = new.cost < state.cost
    damping = np.where(better & (ratio > 0.25), damping / 8, np.where(better, damping, damping * 6))
    damping = np.maximum(damping, 1e-12)
    t = np.where(better[:, None], trial, t)
    for fresh, old in zip(new, state):
      fresh[~better] = old[~better] if len(old) == len(better) else old
    state = new
  best[rows], final[rows], softness[rows] = t, state.cost, damping
  return best, final, settled, ended, softness


def _rounds(problem, theta, weights, free, delta, damping, iterations, tolerance):
  """(theta, cost, converged): chunks of rows, shared among the cores, those of them that go on.

  The slowest row of a chunk does not hold up the others: after each round the rows left are
  gathered into chunks anew. But for rounding, a row's path is the same in any chunk.
  """
  theta, cost, damping = theta.copy(), np.full(len(theta), np.inf), np.full(len(theta), damping)
  settled, left = np.zeros(len(theta), bool), np.arange(len(theta))
  most, some = max(1, CELLS // weights.shape[1]), ROUND

  @np.errstate(all='ignore')
  def run(part):
    here = problem._replace(target=problem.target[part]) if problem.target.ndim == 2 else problem
    of = (x[part] for x in (theta, weights, free))
    return _descend(here, *of, delta, damping[part], some, tolerance)

  while iterations > 0 and len(left):
    some = min(some, iterations)
    size = min(most, max(-(-len(left) // CORES), most // 16))
    parts = [left[i : i + size] for i in range(0, len(left), size)]
    if len(parts) == 1 or CORES == 1:
      found = [run(part) for part in parts]
    else:
      with ThreadPoolExecutor(CORES) as pool:
        found = list(pool.map(run, parts))
    found = [np.concatenate(x) for x in zip(*found)]
    theta[left], cost[left], settled[left], ended, damping[left] = found
    left, iterations, some = left[~ended], iterations - some, some * 2
  return theta, cost, settled


def approach(problem: Problem, theta: np.ndarray) -> list:
  """Huber's deltas on the way to a tiny one: from the size of theta's residuals, down by NEXT."""
  if np.isinf(problem.loss.delta):
    return []
  with np.errstate(all='ignore'):
    f = problem.function(*parameters(problem, theta), *problem.inputs)
    r = residuals(problem, f, problem.target)
  size = float(np.nanmedian(np.abs(r)))
  steps = int(np.clip(np.log(size / problem.loss.delta) / np.log(NEXT), 0, 40)) if size > 0 else 0
  return [problem.loss.delta * NEXT**k for k in range(steps, 0, -1)]


def _without(problem: Problem, theta: np.ndarray, some: np.ndarray) -> Problem:
  """The problem of the parameters in `some`, the others held where theta has them."""
  held = parameters(problem, theta)

  def function(*values):
    free, inputs = iter(values), values[int(some.sum()) :]
    return problem.function(*(next(free) if s else h for s, h in zip(some, held)), *inputs)

  cut = {name: getattr(problem, name)[some] for name in ('lower', 'upper', 'logged')}
  return problem._replace(function=function, **cut)


def minimise(
  problem: Problem,
  theta: np.ndarray,
  weights: np.ndarray,
  free: np.ndarray,
  deltas=None,
  damping: float = 1e-2,
  iterations: int = 120,
  tolerance: float = 1e-14,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(theta [b, P], objective [b], converged [b]) from each start theta [b, P].

  weights [b, n]; free [P] or [b, P]: what is fitted. deltas: Huber's on the way, the loss's own
  last. A row has converged where Newton's next step, which it still takes, promises less than
  `tolerance` of the objective. Chunks of rows are shared among the cores.
  """
  free = np.broadcast_to(free, theta.shape)
  some = free.any(axis=0) | (np.ptp(theta, axis=0) > 0)
  if not some.all():  # what no row fits is a constant of a smaller problem
    options = {'damping': damping, 'iterations': iterations, 'tolerance': tolerance}
    small = _without(problem, theta[0], some)
    found = minimise(small, theta[:, some], weights, free[:, some], deltas, **options)
    whole = theta.copy()
    whole[:, some] = found[0]
    return whole, *found[1:]
  theta = np.clip(theta, problem.lower, problem.upper)
  if deltas is not None and np.isfinite(problem.loss.delta):
    for delta in deltas:
      theta, _, _ = _rounds(problem, theta, weights, free, delta, damping, 30, 1e-6)
  last = problem.loss.delta
  return _rounds(problem, theta, weights, free, last, damping, iterations, tolerance)
