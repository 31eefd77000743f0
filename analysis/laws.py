"""The laws: plain functions of named parameters, each with its formula, bounds and source.

A law's function takes its parameters first, then its inputs (arrays that broadcast), and returns
the prediction. It is written in analytic numpy operations alone (exp, log, powers, arithmetic),
so that it may be evaluated at complex parameters: `fit` takes exact derivatives by a complex
step. `starts` proposes parameters from the data alone: a grid over the exponents, and at each
point of it the linear parameters by least squares (variable projection).
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Param(NamedTuple):
  """A parameter and its bounds; one whose lower bound is above 0 is fitted on a log scale."""

  name: str
  lower: float
  upper: float


class Law(NamedTuple):
  """A named formula. `output` and `inputs` are the keys of the `columns` that `fit` takes."""

  name: str
  formula: str
  inputs: tuple[str, ...]
  output: str
  params: tuple[Param, ...]
  function: Callable  # (*params, *inputs) -> prediction
  starts: Callable  # (inputs [I, n], output [n]) -> parameters [S, P]
  source: str


def power(E, A, alpha, x):
  """L = E + A x^-alpha: a floor and a falling power of one resource."""
  return E + A * np.exp(-alpha * np.log(x))


def chinchilla(E, A, alpha, B, beta, N, D):
  """L = E + A / N^alpha + B / D^beta, N parameters and D tokens."""
  return E + A * np.exp(-alpha * np.log(N)) + B * np.exp(-beta * np.log(D))


def sigmoid(R_0, A, C_mid, B, C):
  """R = R_0 + (A - R_0) / (1 + (C_mid / C)^B): from R_0 to the ceiling A, half-way at C_mid."""
  return R_0 + (A - R_0) / (1 + np.exp(B * (np.log(C_mid) - np.log(C))))


def coverage(a, b, k):
  """pass@k = exp(-a k^-b), which is -log pass@k = a k^-b."""
  return np.exp(-a * np.exp(-b * np.log(k)))


def log_linear(a, b, x):
  """y = a + b log x: the rival that knows no floor, no ceiling and no exponent."""
  return a + b * np.log(x)


EXPONENTS = np.geomspace(0.05, 2.0, 12)


def _linear(y, *basis):
  """Non-negative coefficients of y on basis vectors, by least squares of the relative error."""
  design = np.stack([np.broadcast_to(b, y.shape) for b in basis], axis=1)
  weights = 1 / np.maximum(np.abs(y), 1e-12)
  scale = np.sqrt(np.sum((design * weights[:, None]) ** 2, axis=0))
  solution = np.linalg.lstsq(design * weights[:, None] / scale, y * weights, rcond=1e-8)[0]
  return np.maximum(solution, 1e-3 * np.abs(solution).max() + 1e-12) / scale


def _power_starts(inputs, y):
  (x,) = inputs
  rows = []
  for alpha in EXPONENTS:
    E, A = _linear(y, 1.0, x**-alpha)
    rows.append((E, A, alpha))
  return np.array(rows)


def _chinchilla_starts(inputs, y):
  N, D = inputs
  rows = []
  for alpha, beta in itertools.product(EXPONENTS[2::2], EXPONENTS[2::2]):
    E, A, B = _linear(y, 1.0, N**-alpha, D**-beta)
    rows.append((E, A, alpha, B, beta))
  return np.array(rows)


def _sigmoid_starts(inputs, y):
  (C,) = inputs
  rows = []
  middles = np.geomspace(C.min() / 3, C.max() * 10, 10)
  for C_mid, B in itertools.product(middles, (0.5, 1.0, 2.0, 4.0)):
    rise = 1 / (1 + (C_mid / C) ** B)
    gain, R_0 = np.polyfit(rise, y, 1)
    rows.append((R_0, R_0 + gain, C_mid, B))
  return np.array(rows)


def _coverage_starts(inputs, y):
  (k,) = inputs
  log_loss = np.log(-np.log(np.clip(y, 1e-12, 1 - 1e-9)))
  slope, intercept = np.polyfit(np.log(k), log_loss, 1)
  return np.array([(np.exp(intercept), b) for b in (max(-slope, 0.01), 0.1, 0.3, 1.0)])


def _log_linear_starts(inputs, y):
  slope, intercept = np.polyfit(np.log(inputs[0]), y, 1)
  return np.array([(intercept, slope)])


LAWS = {
  law.name: law
  for law in (
    Law(
      name='power',
      formula='L = E + A x^-alpha',
      inputs=('x',),
      output='L',
      params=(Param('E', 1e-6, 1e6), Param('A', 1e-9, 1e30), Param('alpha', 1e-3, 5.0)),
      function=power,
      starts=_power_starts,
      source='2001.08361, with the floor of 2010.14701',
    ),
    Law(
      name='chinchilla',
      formula='L = E + A / N^alpha + B / D^beta',
      inputs=('N', 'D'),
      output='L',
      params=(
        Param('E', 1e-6, 1e6),
        Param('A', 1e-9, 1e30),
        Param('alpha', 1e-3, 5.0),
        Param('B', 1e-9, 1e30),
        Param('beta', 1e-3, 5.0),
      ),
      function=chinchilla,
      starts=_chinchilla_starts,
      source='2203.15556; as refitted in 2404.10102',
    ),
    Law(
      name='sigmoid',
      formula='R = R_0 + (A - R_0) / (1 + (C_mid / C)^B)',
      inputs=('C',),
      output='R',
      params=(
        Param('R_0', 0.0, 1.0),
        Param('A', 0.0, 1.0),
        Param('C_mid', 1e-12, 1e30),
        Param('B', 0.05, 20.0),
      ),
      function=sigmoid,
      starts=_sigmoid_starts,
      source='ScaleRL, 2510.13786',
    ),
    Law(
      name='coverage',
      formula='-log pass@k = a k^-b',
      inputs=('k',),
      output='pass_at_k',
      params=(Param('a', 1e-9, 1e4), Param('b', 1e-3, 10.0)),
      function=coverage,
      starts=_coverage_starts,
      source='2407.21787; 2502.17578',
    ),
    Law(
      name='log_linear',
      formula='y = a + b log x',
      inputs=('x',),
      output='y',
      params=(Param('a', -np.inf, np.inf), Param('b', -np.inf, np.inf)),
      function=log_linear,
      starts=_log_linear_starts,
      source='2308.01825, accuracy in log data',
    ),
  )
}
