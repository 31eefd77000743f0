"""The numerics of the joint law: regressors, likelihoods with two derivatives, Newton. Float64.

Everything has a leading axis R, the bootstrap resamples, solved at once. T = p + q coefficients:
p of the mean, q of the dispersion.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from analysis.errors import BadInput

LEVELS = 3  # of a variable, for an interaction or a square of it to enter a law
COLUMNS = {
  'N': 'params_non_embedding',
  'P': 'pretrain_tokens',
  'D': 'sft_tokens',
  'C': 'rl_flops',
}
FROM_ZERO = ('P', 'C')  # variables that may be 0, which enter as log(1 + x/x_0)


class Basis(NamedTuple):
  """Turns N, P, D, C (and k) into regressors: terms are products of standardised variables."""

  mean: tuple  # terms kept
  dispersion: tuple
  centre: dict
  scale: dict  # 0 where the variable did not vary
  least: dict  # of FROM_ZERO: x_0, the smallest above 0


def numbers(table, column, missing=False):
  """A column as float64; BadInput naming the first row (counted from 0) that is no number."""
  values = pd.to_numeric(table[column], errors='coerce').to_numpy(np.float64, na_value=np.nan)
  bad = ~np.isfinite(values)
  if bad.any() and not missing:
    row = int(np.argmax(bad))
    raise BadInput(f'column {column!r}, row {row}: {table[column].iloc[row]} is not a number')
  return values


def distinct_cells(table, needed):
  """Distinct (N, P, D, C) of a table as arrays, and the index of each row's among them."""
  for column in (*needed, *COLUMNS.values()):
    if column not in table:
      raise BadInput(f'column {column!r} is not there; there are {", ".join(map(str, table))}')
  if not len(table):
    raise BadInput('the table of cells is empty: no cell has been sampled yet')
  rows = []
  for name, column in COLUMNS.items():
    values = numbers(table, column)
    bad = values < 0 if name in FROM_ZERO else values <= 0
    if bad.any():
      row = int(np.argmax(bad))
      raise BadInput(f'column {column!r}, row {row}: {values[row]:g} has no log; drop such cells')
    rows.append(values)
  unique, which = np.unique(np.stack(rows, axis=1), axis=0, return_inverse=True)
  return dict(zip(COLUMNS, unique.T, strict=True)), which.reshape(-1)


def _logs(values, least):
  return {x: np.log1p(v / least[x]) if x in least else np.log(v) for x, v in values.items()}


def make_basis(values, mean_terms, dispersion_terms):
  """The basis standardised over `values`, with the terms that these identify, in order.

  A term of one variable enters unless it is constant or a combination of those before it. A
  product (an interaction, a square) enters only where, besides, each of its variables has LEVELS
  distinct values: among the cells with RL, where C is one of them, as the others tell no slope of
  C. Two levels leave nothing to check a product by, and it grows fastest beyond them. Values of P
  are counted at one size: what bases of one size each are worth is not told from their size.
  """
  above = {x: values[x][values[x] > 0] for x in FROM_ZERO}
  least = {x: float(v.min()) if len(v) else 1.0 for x, v in above.items()}
  logs = _logs(values, least)
  centre = {x: float(v.mean()) for x, v in logs.items()}
  scale = {x: 0.0 if np.ptp(v) < 1e-9 else float(v.std()) for x, v in logs.items()}
  everything = Basis(mean_terms, dispersion_terms, centre, scale, least)

  def enough(term):
    variables, product = set(term.split('*')), '*' in term
    rows = values['C'] > 0 if product and 'C' in variables else slice(None)

    def levels(x):
      group = values['N'] if x == 'P' else np.zeros(len(values[x]))
      pairs = np.unique(np.stack([group, values[x]])[:, rows], axis=1)
      return np.unique(pairs[0], return_counts=True)[1].max(initial=0)

    return all(levels(x) >= (LEVELS if product else 2) for x in variables - {'1'})

  def independent(terms):
    terms = tuple(term for term in terms if enough(term))
    columns, kept = design(everything, terms, values), []
    for j in range(len(terms)):
      before = columns[:, kept]
      rest = columns[:, j] - before @ np.linalg.lstsq(before, columns[:, j], rcond=None)[0]
      if np.linalg.norm(rest) > 1e-3 * np.sqrt(len(columns)):
        kept.append(j)
    return tuple(terms[j] for j in kept)

  return everything._replace(mean=independent(mean_terms), dispersion=independent(dispersion_terms))


def _standard(basis, values):
  """The logs of N, P, D, C (and k) standardised, and '1'."""
  standard = {}
  for x, v in _logs(values, basis.least).items():
    offset = v - basis.centre.get(x, 0)
    if basis.scale.get(x) == 0 and np.abs(offset).max() > 1e-6:
      raise BadInput(f'{COLUMNS.get(x, x)} did not vary among the fitted cells: no law in it')
    standard[x] = offset / (basis.scale.get(x) or 1)
  return standard | {'1': np.ones_like(standard['N'])}


def design(basis, terms, values):
  """Regressors [..., terms] at arrays of N, P, D, C (and k) of one shape."""
  standard = _standard(basis, values)
  columns = [np.prod([standard[x] for x in term.split('*')], axis=0) for term in terms]
  return np.stack(columns, axis=-1) if columns else np.zeros((*standard['1'].shape, 0))


def linear(basis, terms, theta, values):
  """Each row of coefficients [R, terms] times the regressors of its own values [R, G]: [R, G]."""
  standard, total = _standard(basis, values), 0.0
  for j, term in enumerate(terms):
    product = theta[:, j, None]
    for x in term.split('*'):
      product = product * standard[x] if x != '1' else product
    total = total + product
  return total


def tails(which, cells, c, n, weights):
  """Weighted rows [R, cell, i] with c > i, with n - c > i, with n > i, for i < max n."""
  width = int(n.max()) + 1

  def tail(count):
    index = which * width + count.astype(np.int64)
    histogram = np.stack([np.bincount(index, w, cells * width) for w in weights])
    above = np.cumsum(histogram.reshape(-1, cells, width)[:, :, ::-1], axis=2)[:, :, ::-1]
    return above[:, :, 1:]

  return tail(c), tail(n - c), tail(n)


def beta_binomial(tails, X, Z) -> Callable:
  """theta [R, p + q] -> beta-binomial log-likelihood [R], less log C(n, c); with derivatives too.

  tails: how many rows of each cell have c > i, n - c > i, n > i, each [R, cells, i], for then
  the sum over rows of log B(c+a, n-c+b)/B(a, b) is, exactly and without cancellation,
  sum_i T_c log(a+i) + T_{n-c} log(b+i) - T_n log(a+b+i).
  """
  right, wrong, drawn = tails
  i = np.arange(right.shape[2])

  def evaluate(theta, derivatives):
    mean = special.expit(theta[:, : X.shape[1]] @ X.T)
    s = np.exp(theta[:, X.shape[1] :] @ Z.T)
    a, b = mean * s, special.expit(-(theta[:, : X.shape[1]] @ X.T)) * s
    ai, bi, si = (v[:, :, None] + i for v in (a, b, s))
    value = right * np.log(ai) + wrong * np.log(bi) - drawn * np.log(si)
    value = value.sum(axis=(1, 2))
    if not derivatives:
      return value
    first = lambda t, v: np.sum(t / v, axis=2)
    second = lambda t, v: np.sum(t / v**2, axis=2)
    g_a = first(right, ai) - first(drawn, si)
    g_b = first(wrong, bi) - first(drawn, si)
    h_ab = second(drawn, si)
    h_aa, h_bb = h_ab - second(right, ai), h_ab - second(wrong, bi)
    v = a * b / s  # da/dmu = -db/dmu
    h_mm = v**2 * (h_aa - 2 * h_ab + h_bb) + (g_a - g_b) * v * (b - a) / s
    h_ms = v * (a * (h_aa - h_ab) + b * (h_ab - h_bb) + g_a - g_b)
    h_ss = a**2 * h_aa + 2 * a * b * h_ab + b**2 * h_bb + a * g_a + b * g_b
    gradient = np.concatenate([(v * (g_a - g_b)) @ X, (a * g_a + b * g_b) @ Z], axis=1)
    block = lambda left, h, other: np.swapaxes(left * h[:, :, None], 1, 2) @ other
    cross = block(X, h_ms, Z)
    hessian = np.concatenate(
      [
        np.concatenate([block(X, h_mm, X), cross], axis=2),
        np.concatenate([np.swapaxes(cross, 1, 2), block(Z, h_ss, Z)], axis=2),
      ],
      axis=1,
    )
    return value, gradient, hessian

  return evaluate


def binomial(value, weight, X):
  """theta [R, p] -> sum of weight * (value * eta - log(1 + e^eta)); value [R, rows]."""

  def evaluate(theta, derivatives):
    eta = theta @ X.T
    total = np.sum(weight * (value * eta - np.logaddexp(0, eta)), axis=1)
    if not derivatives:
      return total
    mean = special.expit(eta)
    curvature = weight * mean * (1 - mean)
    hessian = -np.swapaxes(X * curvature[:, :, None], 1, 2) @ X
    return total, (weight * (value - mean)) @ X, hessian

  return evaluate


def maximise(objective, theta, penalty, iterations=200):
  """Newton from theta [R, T] on objective - penalty . theta^2 / 2, all R at once.

  Curvatures of the wrong sign are turned round; a step that does not improve is cut to a quarter.
  """
  theta, rate = theta.copy(), np.ones(len(theta))
  penalised = lambda value, t: value - (penalty * t**2).sum(axis=1) / 2
  for _ in range(iterations):
    value, gradient, hessian = objective(theta, True)
    gradient = gradient - penalty * theta
    curvature, axes = np.linalg.eigh(np.diag(penalty) - hessian)
    curvature = np.maximum(np.abs(curvature), 1e-6)
    along = np.einsum('rij,ri->rj', axes, gradient) / curvature
    step = np.einsum('rij,rj->ri', axes, along)
    expected = np.einsum('ri,ri->r', gradient, step)
    if np.all((expected < 1e-9) | (rate < 1e-8)):
      break
    trial = theta + rate[:, None] * step
    with np.errstate(all='ignore'):
      new = penalised(objective(trial, False), trial)
    better = new >= penalised(value, theta)
    theta = np.where(better[:, None], trial, theta)
    rate = np.where(better, np.minimum(1, 2 * rate), rate / 4)
  return theta
