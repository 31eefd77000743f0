"""Where the fits of laws begin that no grid with linear parameters reaches: a function a law.

Each takes (inputs, output above 0) and returns parameters [S, P] in the law's order.
"""

import numpy as np


def kaplan_one(inputs, y):
  slope, intercept = np.polyfit(np.log(inputs[0]), np.log(y), 1)
  alpha = max(-slope, 1e-2)
  return np.array([(np.exp(np.clip(intercept / alpha, -20, 69)), alpha)])


def _two_powers(y, first, second):
  """Coefficients, above 0, of y on two positive columns by relative least squares."""
  basis = np.stack([first, second], axis=1) / y[:, None]
  size = np.linalg.norm(basis, axis=0)
  return np.maximum(np.linalg.lstsq(basis / size, np.ones(len(y)))[0], 1e-4) / size


def kaplan(inputs, y):
  """At each pair of exponents L^(1/alpha_D) is linear in N^-(alpha_N/alpha_D) and 1/D."""
  middles = [np.exp(np.mean(np.log(x))) for x in (*inputs, y)]
  N, D, L = (x / middle for x, middle in zip((*inputs, y), middles))
  rows, (N_0, D_0, L_0) = [], middles
  for alpha_D in np.geomspace(0.03, 1, 10):
    for ratio in np.geomspace(0.2, 5, 8):
      u, v = _two_powers(L ** (1 / alpha_D), N**-ratio, 1 / D)
      log_N_c = np.log(N_0) + (np.log(u) + np.log(L_0) / alpha_D) / ratio
      log_D_c = np.log(D_0) + np.log(v) + np.log(L_0) / alpha_D
      rows.append((*np.exp(np.minimum([log_N_c, log_D_c], 69.0)), ratio * alpha_D, alpha_D))
  return np.array(rows)[:, [0, 2, 1, 3]]


def data_constrained(inputs, y):
  """At each set of exponents and half-lives, E, A and B by least squares, with N_eff = N."""
  N, D, U = inputs
  U = np.minimum(U, D)
  rows = []
  for R_D in (2.0, 8.0, 32.0, 128.0):
    tokens = U + U * R_D * -np.expm1(-(D / U - 1) / R_D)
    for alpha in np.geomspace(0.1, 1, 5):
      for beta in np.geomspace(0.1, 1, 5):
        basis = np.stack([np.ones(len(y)), N**-alpha, tokens**-beta], axis=1) / y[:, None]
        size = np.linalg.norm(basis, axis=0)
        E, A, B = np.maximum(np.linalg.lstsq(basis / size, np.ones(len(y)))[0], 1e-3) / size
        rows += [(E, A, alpha, B, beta, R_N, R_D) for R_N in (1.0, 4.0, 16.0, 64.0)]
  return np.array(rows)


def coverage(inputs, y):
  loss = np.log(-np.log(np.clip(y, 1e-12, 1 - 1e-9)))
  slope, intercept = np.polyfit(np.log(inputs[0]), loss, 1)
  return np.array([(np.exp(intercept), b) for b in (max(-slope, 0.01), 0.1, 0.3, 1.0)])


def rl_size(inputs, y):
  N, X = inputs
  rows = []
  for N_0 in np.geomspace(N.min() / 10, N.max() * 10, 12):
    basis = np.stack([-np.log(X) / (1 + N_0 / N), np.ones(len(y)), np.log(N)], axis=1)
    K, e_0, e_1 = np.linalg.lstsq(basis, np.log(y))[0]
    rows.append((max(K, 1e-4), N_0, e_0, e_1))
  return np.array(rows)


def intrinsic(inputs, y):
  """At each triple of exponents I^-beta is linear in N^-alpha_N and E^-alpha_E."""
  rows, grid = [], np.geomspace(0.1, 2, 6)
  for alpha_N in grid:
    for alpha_E in grid:
      for beta in np.geomspace(0.05, 2, 6):
        u, v = _two_powers(y**-beta, inputs[0] ** -alpha_N, inputs[1] ** -alpha_E)
        rows.append((u ** (1 / alpha_N), alpha_N, v ** (1 / alpha_E), alpha_E, beta))
  return np.array(rows)
