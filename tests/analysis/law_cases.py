"""Of every law: plausible parameters, inputs, and the formula written out once more."""

from typing import NamedTuple

import numpy as np
from scipy import special

X = np.geomspace(3.0, 1e6, 24)
RANGE = np.geomspace(1e4, 1e8, 16)
SIZES, TOKENS = (
  a.ravel() for a in np.meshgrid(np.geomspace(1e5, 1e9, 6), np.geomspace(1e6, 1e10, 6))
)
GRID = [
  a.ravel()
  for a in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e7, 1e11, 4), [1, 4, 16, 64])
]
UNIQUE = [
  a.ravel()
  for a in np.meshgrid(np.geomspace(1e7, 1e10, 4), [1e8, 1e9, 1e10], [1, 3, 10, 30, 100, 300])
]
DEPTH = np.linspace(0.2, 4, 12)  # sqrt(KL)
LOSS = np.linspace(1.8, 4.5, 12)
REPEATED = [UNIQUE[0], UNIQUE[1] * UNIQUE[2], UNIQUE[1]]  # N, D, U


class Case(NamedTuple):
  params: tuple
  inputs: list
  expected: np.ndarray


def _worth(R_D, D, U):
  U = np.where(U > D, D, U)
  return U + U * R_D * (1 - np.exp(-(D / U - 1) / R_D))


def _data_constrained(E, A, alpha, B, beta, R_N, R_D, N, D, U):
  G = (alpha * A / (beta * B)) ** (1 / (alpha + beta))
  U = np.where(U > D, D, U)
  tokens = _worth(R_D, D, U)
  optimal = G * (U * G) ** (beta / alpha)
  U_N = np.where(N < optimal, N, optimal)
  size = U_N + U_N * R_N * (1 - np.exp(-(N / U_N - 1) / R_N))
  return E + A / size**alpha + B / tokens**beta


def _bnsl(a, b, c0, c, d, f, x):
  return a + b * x**-c0 * (1 + (x / d) ** (1 / f)) ** (-c * f)


N, D, k = GRID
C = SIZES * TOKENS * 6
M = TOKENS / SIZES
CASES = {
  'power': Case((1.7, 400.0, 0.34), [RANGE], 1.7 + 400 / RANGE**0.34),
  'chinchilla': Case(
    (1.69, 406.4, 0.34, 410.7, 0.28),
    [SIZES, TOKENS],
    1.69 + 406.4 / SIZES**0.34 + 410.7 / TOKENS**0.28,
  ),
  'kaplan_one': Case((8.8e13, 0.076), [SIZES], (8.8e13 / SIZES) ** 0.076),
  'kaplan': Case(
    (8.8e13, 0.076, 5.4e13, 0.095),
    [SIZES, TOKENS],
    ((8.8e13 / SIZES) ** (0.076 / 0.095) + 5.4e13 / TOKENS) ** 0.095,
  ),
  'data_constrained': Case(
    (1.87, 521.0, 0.35, 1488.0, 0.36, 5.3, 15.4),
    REPEATED,
    _data_constrained(1.87, 521.0, 0.35, 1488.0, 0.36, 5.3, 15.4, *REPEATED),
  ),
  'repeated': Case(
    (1.87, 1488.0, 0.36, 15.4),
    REPEATED[1:],
    1.87 + 1488 / _worth(15.4, *REPEATED[1:]) ** 0.36,
  ),
  'overtraining': Case(
    (1.5, 141.0, 190.0, 0.121), [C, M], 1.5 + (141 * M**0.121 + 190 / M**0.121) / C**0.121
  ),
  'downstream_error': Case(
    (0.85, 2.08, 0.756), [LOSS], 0.85 - 2.08 / np.exp(0.756 * LOSS)
  ),
  'bnsl': Case((0.3, 5.0, 0.1, 0.4, 2e3, 0.4), [X], _bnsl(0.3, 5.0, 0.1, 0.4, 2e3, 0.4, X)),
  'bnsl2': Case(
    (0.3, 5.0, 0.05, 0.4, 1e2, 0.3, -0.3, 300.0, 0.3),
    [np.geomspace(1, 1e7, 60)],
    0.3
    + (_bnsl(0, 5.0, 0.05, 0.4, 1e2, 0.3, np.geomspace(1, 1e7, 60)))
    * (1 + (np.geomspace(1, 1e7, 60) / 3e4) ** (1 / 0.3)) ** (0.3 * 0.3),
  ),
  'sft_multiplicative': Case(
    (30.0, 0.1, 0.15, 0.9), [SIZES, TOKENS], 30 / (SIZES**0.1 * TOKENS**0.15) + 0.9
  ),
  'sft_additive': Case(
    (30.0, 0.2, 20.0, 0.15, 0.9), [SIZES, TOKENS], 30 / SIZES**0.2 + 20 / TOKENS**0.15 + 0.9
  ),
  'rectified': Case(
    (900.0, 300.0, 0.6, 0.7),
    [np.array([0, *200 * 2.0 ** np.arange(14)])],
    900 / (300 + np.array([0, *200 * 2.0 ** np.arange(14)]) ** 0.6) + 0.7,
  ),
  'log_linear': Case((0.1, 0.05), [X], 0.1 + 0.05 * np.log(X)),
  'sigmoid': Case((0.2, 0.61, 2542.0, 1.92), [X], 0.2 + 0.41 * X**1.92 / (X**1.92 + 2542.0**1.92)),
  'rising_power': Case((0.8, 0.9, 0.3), [X], 0.8 - 0.9 / X**0.3),
  'rl_size': Case(
    (0.13, 1.3e7, 1.0, -0.05),
    [SIZES, TOKENS],
    TOKENS ** (-0.13 / (1 + 1.3e7 / SIZES)) * np.exp(1.0) * SIZES**-0.05,
  ),
  'gold_best_of_n': Case((0.6, 0.12), [DEPTH], 0.6 * DEPTH - 0.12 * DEPTH ** 2),
  'gold_rl': Case((0.6, 0.2), [DEPTH], DEPTH * (0.6 - 0.2 * np.log(DEPTH))),
  'entropy': Case((0.2, 0.9), [np.linspace(0, 1, 9)], 0.9 - 0.2 * np.e ** np.linspace(0, 1, 9)),
  'intrinsic': Case(
    (3e4, 0.3, 2e5, 0.4, 0.5),
    [SIZES, TOKENS],
    ((3e4 / SIZES) ** 0.3 + (2e5 / TOKENS) ** 0.4) ** -2.0,
  ),
  'coverage': Case((2.5, 0.4), [2.0 ** np.arange(10)], np.exp(-2.5 / 2.0 ** (0.4 * np.arange(10)))),
  'beta_binomial': Case(
    (0.4, 2.5),
    [2.0 ** np.arange(10)],
    1 - special.beta(0.4, 2.5 + 2.0 ** np.arange(10)) / special.beta(0.4, 2.5),
  ),
  't2': Case(
    (0.05, 60.0, 0.3, 90.0, 0.25, 1.2, 0.5),
    GRID,
    0.05 + 60 / N**0.3 + 90 / D**0.25 + 1.2 / np.sqrt(k),
  ),
}  # fmt: skip
