"""The tools that `benchmarks.fit` compares. One process is one tool:

    python -m benchmarks.fit_workers TOOL TABLE SHARE RESAMPLES

TOOL names a function of this file, which returns do(work) -> objectives, in the order of the
resamples or, of the global fit, the one that was found.
"""

import itertools
import os
import sys
import time

import numpy as np
import pandas as pd

from benchmarks import harness

DELTA = 1e-3
COLUMNS = {'N': 'Model Size', 'D': '`Training FLOP` / (6 * N)', 'L': 'loss'}
OPTIMUM = np.array([0.34731, 0.36717, np.log(1.81722), np.log(477.83), np.log(2143.4)])
GRID = itertools.product(
  np.arange(0, 2.1, 0.5), np.arange(0, 2.1, 0.5), np.arange(-1, 1.1, 0.5),
  np.arange(0, 26, 5.0), np.arange(0, 26, 5.0),
)  # fmt: skip
X, Y = (a.ravel() for a in np.meshgrid(np.geomspace(1e6, 1e9, 12), np.geomspace(1e8, 1e11, 20)))
LINE, KS = np.geomspace(1e3, 1e9, 40), 2.0 ** np.arange(12)
PLAUSIBLE = {  # law -> parameters, inputs
  'power': ((1.7, 400.0, 0.34), [LINE]),
  'chinchilla': ((1.82, 478.0, 0.347, 2143.0, 0.367), [X, Y]),
  'kaplan': ((8.8e13, 0.076, 5.4e13, 0.095), [X, Y]),
  'data_constrained': ((1.87, 521.0, 0.35, 1488.0, 0.36, 5.3, 15.4), [X, Y, Y / 10]),
  'overtraining': ((1.5, 141.0, 190.0, 0.121), [6 * X * Y, Y / X]),
  'sft_multiplicative': ((30.0, 0.1, 0.15, 0.9), [X, Y]),
  'rectified': ((900.0, 300.0, 0.6, 0.7), [200 * KS]),
  'sigmoid': ((0.2, 0.61, 2542.0, 1.92), [np.geomspace(100, 3e4, 40)]),
  'bnsl': ((0.3, 5.0, 0.1, 0.4, 1e6, 0.4), [LINE]),
  'coverage': ((2.5, 0.4), [KS]),
  'beta_binomial': ((0.4, 2.5), [KS]),
  't2': ((0.05, 60.0, 0.3, 90.0, 0.25, 1.2, 0.5), [X, Y, np.tile(KS, 20)]),
}


def runs(path: str) -> pd.DataFrame:
  """The 240 runs, or as many made up."""
  if os.path.exists(path):
    return pd.read_csv(path).sort_values('loss').iloc[:240]
  rng = np.random.default_rng(0)
  N, D = np.exp(rng.uniform(np.log(6e7), np.log(1.5e10), 240)), 10 ** rng.uniform(9, 11.5, 240)
  loss = 1.82 + 478 / N**0.347 + 2143 / D**0.367
  loss *= np.exp(0.004 * rng.standard_t(3, 240))
  return pd.DataFrame({'Model Size': N, 'Training FLOP': 6 * N * D, 'loss': loss})


def resampled(rows: int, number: int) -> np.ndarray:
  """How often each row is in each resample: what analysis.fit draws of seed 0."""
  rng = np.random.default_rng(0)
  return rng.multinomial(rows, np.full(rows, 1 / rows), number).astype(float)


def _objective(xp, theta, log_N, log_D, log_L, weights):
  """The published form: theta is alpha, beta, log E, log A, log B."""
  alpha, beta, e, a, b = theta
  terms = [a - alpha * log_N, b - beta * log_D, e + 0 * log_N]
  top = xp.maximum(xp.maximum(terms[0], terms[1]), terms[2])
  predicted = top + xp.log(sum(xp.exp(term - top) for term in terms))
  r = xp.abs(predicted - log_L)
  inner = xp.minimum(r, DELTA)
  return xp.sum(weights * inner * (r - inner / 2))


def _gradient(theta, log_N, log_D, log_L, weights):
  """Objective and gradient by hand."""
  alpha, beta, e, a, b = theta
  terms = np.stack([a - alpha * log_N, b - beta * log_D, e + 0 * log_N])
  top = terms.max(axis=0)
  parts = np.exp(terms - top)
  total = parts.sum(axis=0)
  r = top + np.log(total) - log_L
  inner = np.minimum(np.abs(r), DELTA)
  slope = weights * np.sign(r) * inner
  A, B, E = parts / total * slope
  gradient = [-(A @ log_N), -(B @ log_D), E.sum(), A.sum(), B.sum()]
  return np.sum(weights * inner * (np.abs(r) - inner / 2)), np.array(gradient)


def _by_bfgs(table, share, resamples, objective, jacobian):
  """do(work) of scipy's BFGS, one minimisation after another."""
  from scipy import optimize

  size = table['Model Size'].to_numpy(float)
  tokens = table['Training FLOP'].to_numpy(float) / (6 * size)
  data = np.log(size), np.log(tokens), np.log(table['loss'].to_numpy(float))
  weights = resampled(len(table), resamples)
  grid = np.array(list(GRID))
  some = np.random.default_rng(0).permutation(grid)[: max(1, round(share * len(grid)))]

  def minimum(start, w):
    return optimize.minimize(objective, start, (*data, w), 'BFGS', jac=jacobian).fun

  def do(work):
    with np.errstate(all='ignore'):
      if work == 'first':
        return [minimum(OPTIMUM, weights[0])]
      if work == 'global':
        return [np.nanmin([minimum(start, np.ones(len(table))) for start in some])]
      return [minimum(OPTIMUM, w) for w in weights[: max(1, round(share * resamples))]]

  return do


def scipy(table, share, resamples):
  return _by_bfgs(table, share, resamples, _gradient, True)


def notebook(table, share, resamples):
  import autograd
  import autograd.numpy as anp

  objective = lambda *args: _objective(anp, *args)
  return _by_bfgs(table, share, resamples, objective, autograd.grad(objective))


def postscale(table, share, resamples):
  from analysis import fit
  from analysis.laws import LAWS

  def do(work, law=None):
    if work == 'any':
      params, inputs = PLAUSIBLE[law]
      law = LAWS[law]
      y = law.function(*params, *inputs)
      y = y * np.exp(0.01 * np.random.default_rng(0).normal(size=len(y)))
      made = dict(zip((*law.inputs, law.output), (*inputs, y), strict=True))
      fit.fit(law, made, {name: name for name in made}, bootstrap=10_000)
      return []
    number = resamples if work == 'bootstrap' else 0
    found = fit.fit('chinchilla', table, COLUMNS, loss=f'huber_log:{DELTA}', bootstrap=number)
    return found.samples if work == 'bootstrap' else [found.objective]

  return do


def setup():
  tool, path, share, resamples = sys.argv[1:]
  table = runs(path)
  do = globals()[tool](table, 1.0 if tool == 'postscale' else float(share), int(resamples))

  def answer(work, **message):
    begin = time.perf_counter()
    found = do(work, **message)
    seconds = time.perf_counter() - begin
    if tool == 'postscale' and work == 'bootstrap':
      found = _of_samples(table, found, resampled(len(table), int(resamples)))
    whole = work == 'first' or tool == 'postscale'
    return {
      'seconds': seconds / (1 if whole else float(share)),
      'objectives': [float(x) for x in found],
    }

  return answer


def _of_samples(table, samples, weights):
  """The objective of each resample at the parameters (E, A, alpha, B, beta) found for it."""
  size, flop, loss = (table[c].to_numpy(float) for c in ('Model Size', 'Training FLOP', 'loss'))
  E, A, alpha, B, beta = samples.T
  theta = np.stack([alpha, beta, np.log(E), np.log(A), np.log(B)], axis=1)
  data = np.log(size), np.log(flop / (6 * size)), np.log(loss)
  return [_gradient(t, *data, w)[0] for t, w in zip(theta, weights, strict=True)]


if __name__ == '__main__':
  harness.serve(setup)
