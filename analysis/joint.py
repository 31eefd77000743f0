"""The joint law: one likelihood over every cell of a study: size N, tokens of pretraining P, SFT
tokens D, RL compute C.

A problem of a cell is solved with a chance p ~ Beta(a, b), so c of its n samples are correct with
beta-binomial probability, where over the cells

    logit(a / (a + b)) = x . beta      x: 1, N, D, C, P, N*D, N*C, D*C, N*P, D*P
    log(a + b)         = z . gamma     z: 1, N, D, C, P

and N, D, C, P stand for log N, log D, log(1 + C/C_0) and log(1 + P/P_0), each standardised over the
fitted cells (C_0, P_0: the smallest above 0 there). Two numbers of a cell then give pass@k at every
k: 1 - B(a, b+k)/B(a, b). `fit_majority` regresses majority@k, which a deployment can have, on the
same variables and log k.

Which terms enter is read off the fitted cells alone, never off held-out ones. An interaction or a
square enters only where each of its variables has three or more levels among the fitted cells
(among those with RL, where C is one of its variables); a term that is constant over them, or a
combination of the terms before it, is left out too, and so is P where each size has one base.
`TERMS_RULE` is this rule in a report's words.

Everything is float64. C is in FLOPs, N counts parameters without embeddings.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special

from analysis.errors import BadInput
from analysis.estimators import (
  beta_binomial_logpmf,
  coverage_from_beta,
  fit_beta_binomial,
  pass_at_k,
)
from analysis.regression import (
  COLUMNS,
  LEVELS,
  Basis,
  beta_binomial,
  binomial,
  design,
  distinct_cells,
  make_basis,
  maximise,
  numbers,
  tails,
)

MEAN = ('1', 'N', 'D', 'C', 'P', 'N*D', 'N*C', 'D*C', 'N*P', 'D*P')
DISPERSION = ('1', 'N', 'D', 'C', 'P')
MAJORITY = (*MEAN, 'k', 'k*k', 'N*k', 'D*k', 'C*k', 'P*k')
RIDGE = 0.1  # precision of the normal prior on every coefficient but an intercept


TERMS_RULE = (
  f'An interaction or a square enters only where each of its variables has {LEVELS} or more levels '
  'among the fitted cells (among those with RL, where RL compute is one of them).'
)
RULE = (
  'fitted: cells below the largest size and below the largest SFT budget; '
  'held out: cells at both; all others in neither'
)


class Heldout(NamedTuple):
  """What a law fitted below the corner of a study says of the corner."""

  rule: str
  table: pd.DataFrame  # a row a held-out cell and k: its variables, measured, low, high, methods
  error: dict  # method -> mean absolute error of the accuracy over the table's rows
  logit_error: dict  # the same of its logit
  loglik_per_sample: dict  # nats a held-out sample; for joint and naive, which are distributions
  fitted_cells: int
  heldout_cells: int
  unscored_cells: int  # held-out RL cells, where no cell that was fitted had RL
  terms: tuple  # of the mean, that entered the fit
  left_out: tuple  # those that the fitted cells do not identify; of P only where P varied


class JointFit(NamedTuple):
  """Coefficients by term, with bootstrap samples [R, mean terms then dispersion terms]."""

  basis: Basis
  mean: dict
  dispersion: dict  # empty for a majority law
  intervals: dict  # term, or 'dispersion ' + term -> (low, high), 95 %; empty without bootstrap
  samples: np.ndarray
  loglik_per_sample: float  # nats a sample drawn; NaN for a majority law
  misfit: float  # root mean square over cells (and k) of the measured less the fitted accuracy
  cells: int


def fit_joint(
  counts: pd.DataFrame,
  *,
  mean_terms: tuple = MEAN,
  dispersion_terms: tuple = DISPERSION,
  bootstrap: int = 100,
  clusters: str | None = None,
  seed: int = 0,
) -> JointFit:
  """Maximum likelihood of the joint law, less a mild ridge, RIDGE/2 * (coefficient)^2.

  counts: one row a cell x problem, with columns problem, c, n and those of COLUMNS. The ridge
  spares the intercepts; beside tens of problems a cell it only keeps finite what the cells leave
  open. Intervals resample problems, each with its counts in every cell, as the cells share them.
  `clusters` names a column (a trunk, a seed) whose values are resampled too, within each size so
  that none is lost: a size with one value shows no run-to-run variation. Compare `misfit` with
  the intervals: it holds that, and what the form of the law misses. BadInput for a column that
  is not there, a count outside 0..n, or a value that has no log.
  """
  cells, which = distinct_cells(counts, ('problem', 'c', 'n', *([clusters] if clusters else [])))
  c, n = numbers(counts, 'c'), numbers(counts, 'n')
  wrong = (c < 0) | (c > n) | (n < 1) | (c % 1 != 0) | (n % 1 != 0)
  if wrong.any():
    row = int(np.argmax(wrong))
    raise BadInput(f"columns 'c', 'n', row {row}: {c[row]:g} correct of {n[row]:g} drawn")
  basis = make_basis(cells, mean_terms, dispersion_terms)
  X, Z = design(basis, basis.mean, cells), design(basis, basis.dispersion, cells)
  penalty = RIDGE * np.array([term != '1' for term in (*basis.mean, *basis.dispersion)])
  likelihood_of = lambda w: beta_binomial(tails(which, len(X), c, n, w), X, Z)

  start = np.zeros((1, len(penalty)))
  start[0, 0] = special.logit((c.sum() + 0.5) / (n.sum() + 1))
  likelihood = likelihood_of(np.ones((1, len(c))))
  theta = maximise(likelihood, start, penalty)
  weights = _row_weights(counts, clusters, bootstrap, seed)
  samples = [np.zeros((0, len(penalty)))]
  chunk = max(1, int(2e6 / (len(X) * n.max())))
  for i in range(0, bootstrap, chunk):
    part = weights[i : i + chunk]
    begin = np.repeat(theta, len(part), axis=0)
    samples.append(maximise(likelihood_of(part), begin, penalty))

  choose = special.gammaln(n + 1) - special.gammaln(c + 1) - special.gammaln(n - c + 1)
  loglik = (likelihood(theta, False)[0] + choose.sum()) / n.sum()
  fitted = special.expit(X @ theta[0, : X.shape[1]])
  measured = np.bincount(which, c / n) / np.bincount(which)
  return _result(basis, theta[0], np.concatenate(samples), loglik, measured - fitted, len(X))


def predict_beta(fit: JointFit, N, P, D, C) -> tuple[np.ndarray, np.ndarray]:
  """(alpha, beta) of the problems' chances at N parameters, P tokens of pretraining, D of SFT and
  C FLOPs of RL, which broadcast."""
  theta = np.array([*fit.mean.values(), *fit.dispersion.values()])
  a, b = _betas(fit, theta[None], _variables(N=N, P=P, D=D, C=C))
  return a[0], b[0]


def predict_pass_at_k(fit: JointFit, N, P, D, C, k, level: float = 0.95):
  """pass@k of the law at N, P, D, C, k, which broadcast: (prediction, low, high), the percentile
  interval of the mean over problems like these. BadInput where a variable that did not vary among
  the fitted cells is given another value."""
  values = _variables(N=N, P=P, D=D, C=C, k=k)
  theta = np.array([*fit.mean.values(), *fit.dispersion.values()])
  curves = coverage_from_beta(
    *_betas(fit, np.concatenate([theta[None], fit.samples]), values), values['k']
  )
  return _with_interval(curves, level)


def fit_majority(
  table: pd.DataFrame,
  *,
  terms: tuple = MAJORITY,
  bootstrap: int = 100,
  seed: int = 0,
) -> JointFit:
  """Quasi-binomial logit regression of majority@k on N, P, D, C and log k: the deployable law.

  table: accuracy rows of strategy 'majority', columns k, value, stderr, problems and those of
  COLUMNS; rows weigh by their problems, with the ridge of fit_joint. Intervals: a wild bootstrap
  flips the residuals of whole cells, inflated by the degrees of freedom spent; and every resample
  shifts all values by one normal draw times their stderr, since the same problems lie under every
  row.
  """
  cells, which = distinct_cells(table, ('k', 'value', 'stderr', 'problems'))
  value, problems = numbers(table, 'value'), numbers(table, 'problems')
  stderr, k = np.nan_to_num(numbers(table, 'stderr', missing=True)), numbers(table, 'k')
  for name, bad in (('value', (value < 0) | (value > 1)), ('k', k < 1), ('problems', problems < 1)):
    if bad.any():
      row = int(np.argmax(bad))
      raise BadInput(f'column {name!r}, row {row}: {table[name].iloc[row]} is out of its range')
  rows = {name: column[which] for name, column in cells.items()} | {'k': k}
  basis = make_basis(rows, terms, ())
  X = design(basis, basis.mean, rows)
  penalty = RIDGE * np.array([term != '1' for term in basis.mean])

  start = np.zeros((1, len(penalty)))
  likelihood = binomial(value[None], problems, X)
  theta = maximise(likelihood, start, penalty)
  fitted = special.expit(X @ theta[0])
  count = int(which.max()) + 1
  spent = sum('k' not in term for term in basis.mean)
  inflation = np.sqrt(count / max(count - spent, 1))
  rng = np.random.default_rng(seed)
  signs = rng.choice([-1.0, 1.0], (bootstrap, count))[:, which]
  shift = rng.normal(size=(bootstrap, 1)) * stderr
  resampled = binomial(fitted + inflation * signs * (value - fitted) + shift, problems, X)
  samples = maximise(resampled, np.repeat(theta, bootstrap, axis=0), penalty)
  return _result(basis, theta[0], samples, np.nan, value - fitted, len(cells['N']))


def predict_majority(fit: JointFit, N, P, D, C, k, level: float = 0.95):
  """majority@k of the law at N, P, D, C, k, which broadcast: (prediction, low, high)."""
  values = _variables(N=N, P=P, D=D, C=C, k=k)
  theta = np.concatenate([np.array([*fit.mean.values()])[None], fit.samples])
  logits = np.tensordot(theta, design(fit.basis, fit.basis.mean, values), axes=(1, -1))
  return _with_interval(special.expit(logits), level)


def heldout(
  counts: pd.DataFrame, ks: tuple = (1, 2, 4, 8, 16, 32), *, bootstrap: int = 100, **options
) -> Heldout:
  """The joint law's error where the largest size and the largest SFT budget are held out together.

  The rule: fit on the cells with size < the largest AND tokens < the largest; predict those with
  size == the largest AND tokens == the largest, pure SFT and RL alike; a cell that has only one
  of the two is in neither, so nothing of the corner's size or budget leaks. Beside it, on the
  same fitted cells and for pass@k at each k up to the samples drawn:
    naive           the fitted cell nearest in standardised logs (one size and one budget down),
                    among those with RL or without as the held-out cell is
    marginal_logit  least squares of logit pass@k on the law's N, D, C and P, for each k alone
    marginal_power  the same of log(-log pass@k): a power of each resource
  options: fit_joint's. BadInput where fewer than two sizes or two budgets remain.
  """
  cells, which = distinct_cells(counts, ('problem', 'c', 'n'))
  below, corner = _corner(cells)
  kept = below[which]
  fit = fit_joint(counts[kept].reset_index(drop=True), bootstrap=bootstrap, **options)
  scored = corner if (cells['C'][below] > 0).any() else corner & (cells['C'] == 0)
  if not scored.any():
    raise BadInput('only RL cells are held out and none is fitted: add RL from a smaller cell')
  c, n = numbers(counts, 'c'), numbers(counts, 'n')
  ks = np.array([k for k in ks if k <= n.min()])
  rates = np.stack([np.bincount(which, pass_at_k(n, c, k)) for k in ks], axis=1)
  rates /= np.bincount(which)[:, None]
  floor = 0.5 / np.bincount(which, n).min()  # half of one sample in the smallest cell
  logit = lambda p: special.logit(np.clip(p, floor, 1 - floor))

  train, held = ({x: v[chosen] for x, v in cells.items()} for chosen in (below, scored))
  near = _nearest(train, held)
  main = make_basis(train, DISPERSION, ())
  X, target = (design(main, main.mean, part) for part in (train, held))
  line = lambda y: target @ np.linalg.lstsq(X, y, rcond=None)[0]
  joint, low, high = predict_pass_at_k(fit, *(v[:, None] for v in held.values()), ks)
  power = line(np.log(-np.log(np.clip(rates[below], floor, 1 - floor))))
  predictions = {
    'joint': joint,
    'naive': rates[below][near],
    'marginal_logit': special.expit(line(logit(rates[below]))),
    'marginal_power': np.exp(-np.exp(power)),
  }
  measured = rates[scored]
  columns = {x: np.repeat(v, len(ks)) for x, v in held.items()} | {'k': np.tile(ks, len(near))}
  columns |= {'measured': measured, 'low': low, 'high': high} | predictions
  betas = {
    'joint': np.stack(predict_beta(fit, *held.values())),
    'naive': np.full((2, len(near)), np.nan),
  }
  for cell, neighbour in enumerate(np.flatnonzero(below)[near]):
    rows = which == neighbour
    if 0 < c[rows].sum() < n[rows].sum():
      betas['naive'][:, cell] = fit_beta_binomial(c[rows], n[rows])
  rows = scored[which]
  place = (np.cumsum(scored) - 1)[which[rows]]
  loglik = lambda ab: beta_binomial_logpmf(c[rows], n[rows], *ab[:, place]).sum() / n[rows].sum()
  return Heldout(
    rule=RULE,
    table=pd.DataFrame({name: np.ravel(v) for name, v in columns.items()}),
    error={m: float(np.abs(p - measured).mean()) for m, p in predictions.items()},
    logit_error={
      m: float(np.abs(logit(p) - logit(measured)).mean()) for m, p in predictions.items()
    },
    loglik_per_sample={m: float(loglik(ab)) for m, ab in betas.items()},
    fitted_cells=int(below.sum()),
    heldout_cells=int(scored.sum()),
    unscored_cells=int(corner.sum() - scored.sum()),
    terms=fit.basis.mean,
    left_out=_left_out(fit, options.get('mean_terms', MEAN)),
  )


def heldout_majority(table: pd.DataFrame, *, bootstrap: int = 100, **options) -> Heldout:
  """The majority law's error under the rule of `heldout`, beside the nearest fitted cell's value.

  table, options: fit_majority's. Rows whose k the nearest cell lacks are left out.
  """
  cells, which = distinct_cells(table, ('k', 'value'))
  below, corner = _corner(cells)
  fit = fit_majority(table[below[which]].reset_index(drop=True), bootstrap=bootstrap, **options)
  scored = corner if (cells['C'][below] > 0).any() else corner & (cells['C'] == 0)
  values = table.assign(cell=which).groupby(['cell', 'k'])['value'].mean()
  near = _nearest(*({x: v[chosen] for x, v in cells.items()} for chosen in (below, scored)))
  rows = []
  for cell, neighbour in zip(np.flatnonzero(scored), np.flatnonzero(below)[near], strict=True):
    both = pd.DataFrame({'measured': values[cell], 'naive': values[neighbour]}).dropna()
    rows.append(both.reset_index().assign(**{x: v[cell] for x, v in cells.items()}))
  if not rows:
    raise BadInput('only RL cells are held out and none is fitted: add RL from a smaller cell')
  result = pd.concat(rows, ignore_index=True)
  predicted, low, high = predict_majority(fit, *(result[x].to_numpy() for x in (*COLUMNS, 'k')))
  result = result.assign(joint=predicted, low=low, high=high)
  floor = 0.5 / numbers(table, 'problems').min()
  logit = lambda p: special.logit(np.clip(p, floor, 1 - floor))
  off = lambda f: {
    m: float((f(result[m]) - f(result['measured'])).abs().mean()) for m in ('joint', 'naive')
  }
  return Heldout(
    rule=RULE,
    table=result,
    error=off(lambda p: p),
    logit_error=off(logit),
    loglik_per_sample={},
    fitted_cells=int(below.sum()),
    heldout_cells=len(rows),
    unscored_cells=int(corner.sum() - scored.sum()),
    terms=fit.basis.mean,
    left_out=_left_out(fit, options.get('terms', MAJORITY)),
  )


def _left_out(fit, terms):
  there = lambda term: 'P' not in term or fit.basis.scale['P'] > 0
  return tuple(term for term in terms if term not in fit.basis.mean and there(term))


def _corner(cells):
  """Which cells lie below the largest size and below the largest budget, and which at both."""
  size, tokens = cells['N'], cells['D']
  below = (size < size.max()) & (tokens < tokens.max())
  corner = (size == size.max()) & (tokens == tokens.max())
  if below.sum() < 2 or not corner.any():
    raise BadInput(
      f'{below.sum()} cells below the largest size and budget, {corner.sum()} at both: '
      'a held-out corner needs 2 and 1; add sizes or SFT budgets'
    )
  return below, corner


def _nearest(train, held):
  """For each held-out cell, the nearest of `train` in standardised logs, with RL or without."""
  basis = make_basis(train, (), ())
  basis = basis._replace(scale={x: v or 1 for x, v in basis.scale.items()})
  x, y = (design(basis, tuple(COLUMNS), v) for v in (train, held))
  distance = np.linalg.norm(y[:, None] - x[None], axis=2)
  other_kind = (held['C'] > 0)[:, None] != (train['C'] > 0)[None]
  return np.argmin(distance + np.where(other_kind, 1e6, 0), axis=1)


def _variables(**values):
  arrays = np.broadcast_arrays(*[np.asarray(v, np.float64) for v in values.values()])
  return dict(zip(values, arrays, strict=True))


def _betas(fit, theta, values):
  values = {x: values[x] for x in COLUMNS}
  split = len(fit.basis.mean)
  along = lambda t, terms: np.tensordot(t, design(fit.basis, terms, values), axes=(1, -1))
  logit = along(theta[:, :split], fit.basis.mean)
  s = np.exp(along(theta[:, split:], fit.basis.dispersion))
  return special.expit(logit) * s, special.expit(-logit) * s


def _with_interval(curves, level):
  """Curve 0 is the estimate, the rest its bootstrap; NaN bounds where there is no bootstrap."""
  if len(curves) == 1:
    return curves[0], np.full_like(curves[0], np.nan), np.full_like(curves[0], np.nan)
  low, high = np.quantile(curves[1:], [(1 - level) / 2, (1 + level) / 2], axis=0)
  return curves[0], low, high


def _row_weights(counts, clusters, n, seed):
  """How often each row is drawn [n, rows]: its problem's draws, times its cluster's in its size."""
  rng = np.random.default_rng(seed)

  def draws(labels):
    codes = pd.factorize(labels)[0]
    count = int(codes.max()) + 1
    return rng.multinomial(count, np.full(count, 1 / count), n)[:, codes].astype(np.float64)

  weights = draws(counts['problem'])
  if clusters:
    size = counts[COLUMNS['N']].to_numpy()
    for value in np.unique(size):
      weights[:, size == value] *= draws(counts[clusters].to_numpy()[size == value])
  return weights


def _result(basis, theta, samples, loglik, residual, cells):
  names = [*basis.mean, *(f'dispersion {term}' for term in basis.dispersion)]
  intervals = {}
  if len(samples):
    low, high = np.quantile(samples, [0.025, 0.975], axis=0)
    intervals = {name: (float(low[i]), float(high[i])) for i, name in enumerate(names)}
  split = len(basis.mean)
  return JointFit(
    basis=basis,
    mean=dict(zip(basis.mean, theta[:split].tolist(), strict=True)),
    dispersion=dict(zip(basis.dispersion, theta[split:].tolist(), strict=True)),
    intervals=intervals,
    samples=samples,
    loglik_per_sample=float(loglik),
    misfit=float(np.sqrt(np.mean(residual**2))),
    cells=cells,
  )
