"""Fits every law that a study's data allow, and says which they do not allow, and why."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import special, stats

from analysis import bands, estimators, frontier, hosted, readings, self_training, sft, test_time
from analysis.errors import BadInput
from analysis.fit import Fit, fit
from analysis.frontier import Quality
from analysis.joint import Heldout, JointFit, fit_joint, fit_majority, heldout, heldout_majority
from analysis.readings import RUN
from analysis.regression import beta_binomial, maximise, tails
from analysis.tables import CELL, Study, most_pretrained


class Reading(NamedTuple):
  """A study, what it says and the laws fitted to it. None or empty: the study has no such data."""

  study: Study
  quality: Quality | None
  losses: pd.DataFrame  # readings.losses, with `held_out`
  # L(N, D), or L(D) for one size, of the bases of the most pretraining; without the held-out rows
  loss_fit: Fit | None
  coverage: pd.DataFrame  # `coverage_fits`: one row a bank
  changes: pd.DataFrame  # readings.rl_changes
  rl_fits: dict  # readings.RUN -> the sigmoid, or the log-linear law where that is not identified
  joint: JointFit | None  # the beta-binomial law over all cells
  majority: JointFit | None  # the law of majority@k over all cells
  heldout: Heldout | None  # the joint law's error on the corner of the study
  heldout_majority: Heldout | None  # the same of the law of majority@k
  missing: tuple[str, ...]  # a line for each law that needs more data
  deployable: Quality | None = None  # `quality` with every strategy that needs no verdicts
  strategies: pd.DataFrame = pd.DataFrame()  # test_time.quality; empty without outcomes
  optimal: test_time.Optimal | None = None  # compute-optimal test time of one cell
  scorers: pd.DataFrame = pd.DataFrame()  # one row a scorer and bank: how good its scores are
  taught: self_training.Found | None = None  # None: no run of config.synthetic, no DPO
  sft_laws: sft.Compared | None = None  # the laws of SFT by what they say of cells left out


def interpret(study: Study) -> Reading:
  """All of it. A law that fails for want of data becomes a line of `missing`, never an error."""
  missing = []
  if hosted.is_hosted(study):  # no size, no FLOPs: nothing that these laws are about
    nothing = pd.DataFrame()
    return Reading(study, None, nothing, None, nothing, nothing, {}, *[None] * 4, missing=())

  def attempt(what, function, *args, otherwise=None):
    try:
      return function(*args)
    except BadInput as error:
      missing.append(f'{what}: {error}')
      return otherwise

  quality = attempt('coverage, RL, joint law and frontier', frontier.qualities, study)
  losses = _hold_out_corner(readings.losses(study))
  loss_fit = attempt('loss law', fit_losses, most_pretrained(losses))
  changes, rl_fits = pd.DataFrame(), {}
  coverage, joint, majority, corner = pd.DataFrame(), None, None, None
  corner_majority = None
  if quality is not None:
    coverage = coverage_fits(study, quality)
    changes = readings.rl_changes(quality)
    if changes.empty:
      missing.append('RL laws: no RL point with its SFT parent on the same problems; add rl stages')
    else:
      rl_fits = fit_rl(changes, missing)
    cells = study.counts[study.counts['sft_tokens'] > 0]
    clusters = 'seed' if cells['seed'].nunique() > 1 else None
    ks = tuple(sorted(quality.splits['k'].unique()))
    if len(quality.splits) < 4 * len(ks):
      missing.append(f'joint law: {len(quality.splits) // len(ks)} cells with a bank; needs 4')
    else:
      joint = attempt('joint law', lambda: fit_joint(cells, clusters=clusters))
      majority = attempt('law of majority@k', lambda: fit_majority(majority_rows(quality)))
      corner = attempt('joint law, held out', lambda: heldout(cells, ks, clusters=clusters))
      corner_majority = attempt(
        'law of majority@k, held out', lambda: heldout_majority(majority_rows(quality))
      )
  outcomes = test_time.outcomes_of(study)
  measured, optimal, deployable = pd.DataFrame(), None, quality
  if not outcomes.empty:
    measured = test_time.quality(outcomes)
    optimal = attempt('compute-optimal test time', test_time.optimal, study, outcomes, measured)
    if quality is not None:
      deployable = frontier.deployable(quality, outcomes)
  return Reading(
    *(study, quality, losses, loss_fit, coverage, changes, rl_fits),
    *(joint, majority, corner, corner_majority, tuple(missing)),
    *(deployable, measured, optimal, test_time.scorers(study)),
    self_training.of_study(study),
    attempt('SFT laws', sft.of_study, study) if len(losses) >= 4 else None,
  )


def _hold_out_corner(losses):
  """Holds out the largest size at its largest budget, where there is enough left to fit; of the
  bases of the most pretraining, as the law is of these."""
  held = np.zeros(len(losses), bool)
  if losses['params_non_embedding'].nunique() >= 2 and losses['tokens'].nunique() >= 3:
    largest = losses['params_non_embedding'] == losses['params_non_embedding'].max()
    largest &= losses.index.isin(most_pretrained(losses).index)
    held = largest & (losses['tokens'] == losses.loc[largest, 'tokens'].max())
  return losses.assign(held_out=np.asarray(held, bool))


def fit_losses(losses: pd.DataFrame) -> Fit:
  """L(N, D) = E + A/N^alpha + B/D^beta (2203.15556); L(D) = E + A/D^alpha where there is one size.

  N non-embedding parameters, D SFT tokens. BadInput where there are fewer points than parameters.
  """
  if losses.empty:
    raise BadInput('no finite held-out loss of an SFT checkpoint; measure one at each budget')
  held = losses['held_out'].to_numpy() if losses['held_out'].any() else None
  if losses['params_non_embedding'].nunique() > 1:
    columns = {'N': 'params_non_embedding', 'D': 'tokens', 'L': 'value'}
    return fit('chinchilla', losses, columns, holdout=held)
  return fit('power', losses, {'x': 'tokens', 'L': 'value'}, holdout=held)


def majority_rows(quality: Quality) -> pd.DataFrame:
  """majority@k of the splits after SFT, the mean over seeds, as `fit_majority` takes it."""
  by_problem = np.nanmean(quality.majority, axis=1)
  rows = quality.splits.assign(
    value=by_problem.mean(1), stderr=by_problem.std(1, ddof=1) / np.sqrt(by_problem.shape[1])
  )
  return rows[rows['sft_tokens'] > 0].reset_index(drop=True)


def fit_rl(changes: pd.DataFrame, missing: list[str]) -> dict:
  """pass@1 against RL FLOPs of each parent, the last point held out.

  The sigmoid of 2510.13786 with R_0 at the parent's own pass@1; the log-linear law where the
  sigmoid's ceiling and middle are not identified. What fails adds a line to `missing`.
  """
  fits, failed = {}, []
  once = changes[changes['k'] == 1]
  for key, points in once.groupby(RUN):
    points = points.sort_values('rl_flops')
    held = (points['rl_flops'] == points['rl_flops'].max()).to_numpy()
    try:
      columns = {'C': 'rl_flops', 'R': 'value'}
      fixed = {'R_0': float(points['parent'].iloc[0])}
      held = held if len(points) > 4 else None
      found = fit('sigmoid', points, columns, loss='squares', fixed=fixed, holdout=held)
      if any(name in found.unidentified for name in ('A', 'C_mid')):
        columns = {'x': 'rl_flops', 'y': 'value'}
        found = fit('log_linear', points, columns, loss='squares', holdout=held)
      fits[key] = found
    except BadInput as error:
      failed.append(f'{key[0]} at {key[2]:.3g} SFT tokens ({error})')
  if failed:
    missing.append(f'RL law from {len(failed)} parents: {failed[0]}')
  return fits


def coverage_fits(study: Study, quality: Quality) -> pd.DataFrame:
  """One row a bank: two laws of coverage, and what each says of pass@K from small k alone.

  K is the largest k, and `few` the largest that is K/4 at most. `measured` is pass@K. Predictions
  of it see no subset of more than `few` samples: power_predicted, by -log pass@k = a k^-b
  (2407.21787), least squares of log(-log pass@k) on log k, b's 95 % interval over resampled
  problems; beta_predicted, by `thinned_beta`; naive, pass@few itself. They are not there where few
  is 1. alpha, beta describe the bank: maximum likelihood on all its (c, n), which give pass@K the
  profile-likelihood interval beta_low, beta_high. NaN where all samples are wrong, or all right.
  """
  ks = sorted(quality.splits['k'].unique())
  few = max((k for k in ks if 4 * k <= ks[-1]), default=1)
  rows = []
  for bank, cell in study.counts.groupby('bank'):
    n, c = cell['n'].to_numpy(), cell['c'].to_numpy()
    row = cell.iloc[0][[*CELL, 'params_non_embedding', 'rl_flops']].to_dict() | {'bank': bank}
    row |= {'problems': len(cell), 'n': int(n.min()), 'K': ks[-1], 'few': few}
    passes = np.array([estimators.pass_at_k(n, c, k) for k in ks])  # [K, P]
    row['measured'] = passes[-1].mean()
    if 0 < c.sum() < n.sum():
      row['alpha'], row['beta'] = estimators.fit_beta_binomial(c, n)
      edge = estimators.coverage_from_beta(*estimators.beta_binomial_region(c, n), ks[-1])
      row['beta_low'], row['beta_high'] = float(edge.min()), float(edge.max())
      if few > 1:
        row['beta_predicted'] = estimators.coverage_from_beta(*thinned_beta(c, n, few), ks[-1])
      row |= power_coverage(passes, ks)
    rows.append(row)
  table = pd.DataFrame(rows)
  return table.sort_values(['params_non_embedding', *CELL], ignore_index=True)


def thinned_beta(c: np.ndarray, n: np.ndarray, few: int) -> tuple[float, float]:
  """(alpha, beta) of most likelihood for a bank thinned to `few` samples a problem, 2 or more.

  The mean over all ways to thin it: the sum over problems and j of P(j) log BetaBinomial(j; few,
  alpha, beta), with P hypergeometric, of j right among `few` of n samples of which c are right. So
  it learns of the bank what pass@1 to pass@few are, and no more. alpha + beta lies in 1e-6..1e6.
  """
  j, one = np.arange(few + 1), np.ones((1, 1))
  weights = stats.hypergeom.pmf(j[:, None], n, c, few).sum(axis=1)
  counts = tails(np.zeros(few + 1, int), 1, j, np.full(few + 1, few), weights[None])
  start = np.array([[special.logit(weights @ j / (few * weights.sum())), 0.0]])
  mean, size = maximise(beta_binomial(counts, one, one), start, np.zeros(2))[0]
  size = np.exp(np.clip(size, np.log(1e-6), np.log(1e6)))
  return special.expit(mean) * size, special.expit(-mean) * size


def power_coverage(passes, ks) -> dict:
  """a, b of -log pass@k = a k^-b by least squares of the logs on k <= K/4, b's 95 % interval over
  resampled problems, and what they predict of the largest k. passes: [K, P]."""
  small = [i for i, k in enumerate(ks) if 4 * k <= ks[-1]]
  if len(small) < 2:
    return {}
  weights = bands.problem_weights(passes.shape[1], 200, seed=0)
  curves = np.concatenate([passes.mean(1)[None], weights @ passes.T])[:, small]
  with np.errstate(divide='ignore', invalid='ignore'):
    y = np.log(-np.log(np.clip(curves, 1e-12, 1 - 1e-12)))
  x = np.log(np.array(ks)[small])
  slope = ((y - y.mean(1, keepdims=True)) * (x - x.mean())).sum(1) / ((x - x.mean()) ** 2).sum()
  a = np.exp(y.mean(1) - slope * x.mean())
  low, high = np.quantile(-slope[1:], [0.025, 0.975])
  predicted = np.exp(-a[0] * ks[-1] ** slope[0])
  row = {'a': a[0], 'b': -slope[0], 'b_low': low, 'b_high': high}
  return row | {'power_predicted': predicted, 'naive': passes[small[-1]].mean()}
