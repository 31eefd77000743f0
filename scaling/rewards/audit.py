"""What a verifier, a judge or a reward model gets wrong, before a policy learns to use it.

    gold, said of samples -> Audit: false positives, false negatives, precision, with intervals
    Audit, pass rates     -> the ceiling that they set on best-of-n
    Audit                 -> require: a refusal below a stated accuracy
    verdicts              -> noisy: the same with mistakes put in, to study what they do

Axes: N samples, P problems, G samples of each, K budgets.
"""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from scaling.errors import BadInput

LEVEL = 0.95  # of intervals


class Rate(NamedTuple):
  """A proportion, and an interval of LEVEL clustered by problem."""

  value: float  # NaN where there was no trial
  lower: float
  upper: float
  trials: int
  problems: int  # that have any


class Audit(NamedTuple):
  """How a verdict compares with the gold one."""

  false_positive: Rate  # accepted, of those that are wrong
  false_negative: Rate  # refused, of those that are right
  precision: Rate  # right, of those accepted
  accuracy: float  # balanced: 1 - (false_positive + false_negative) / 2; 0.5 is chance
  right: float  # the part of the samples that is right
  failed: float  # … on which there was no verdict; each counts as refused
  samples: int
  problems: int


def proportion(events: np.ndarray, problems: np.ndarray) -> Rate:
  """The part of N samples that is an event, with a Clopper-Pearson interval clustered by problem.

  Korn and Graubard's (Survey Methodology 24, 1998): the exact binomial interval of as many trials
  as the samples are worth, n_eff = p (1 - p) / V, with V the variance of the ratio p over problems,
  and a t-quantile's correction for their number. It is at most N, and exactly N where each problem
  has one sample; where no sample, or every one, is an event V says nothing, and it is the number of
  problems. events: bool [N]; problems: [N] ids.
  """
  events = np.asarray(events, bool)
  N = len(events)
  if N == 0:
    return Rate(np.nan, 0.0, 1.0, 0, 0)
  _, which = np.unique(np.asarray(problems), return_inverse=True)
  sizes, sums = np.bincount(which), np.bincount(which, events)
  P, p = len(sizes), events.mean()
  if P == N:
    worth = float(N)
  elif p in (0, 1):
    worth = float(P)
  elif P == 1:
    worth = 1.0
  else:
    variance = P / (P - 1) * np.sum((sums - p * sizes) ** 2) / N**2
    shrink = (stats.t.ppf(0.975, N - 1) / stats.t.ppf(0.975, P - 1)) ** 2
    worth = min(N, p * (1 - p) / max(variance, 1e-300) * shrink)
  x, tail = p * worth, (1 - LEVEL) / 2
  lower = stats.beta.ppf(tail, x, worth - x + 1) if p > 0 else 0.0
  upper = stats.beta.ppf(1 - tail, x + 1, worth - x) if p < 1 else 1.0
  return Rate(float(p), float(lower), float(upper), N, P)


def audit(gold: np.ndarray, said: np.ndarray, problems: np.ndarray) -> Audit:
  """The Audit of verdicts on N samples of a task.

  gold: bool [N], whether they are right; said: [N], what the thing said: 1, 0, or NaN where it
  failed; problems: [N] ids. BadInput where there is no right, or no wrong, sample to judge it by.
  """
  gold, said = np.asarray(gold, bool), np.asarray(said, np.float64)
  problems = np.asarray(problems)
  if not len(gold) == len(said) == len(problems):
    raise BadInput(
      f'audit: {len(gold)} gold verdicts, {len(said)} others and {len(problems)} problems: one of '
      'each for every sample'
    )
  if not np.isin(said[~np.isnan(said)], (0, 1)).all():
    raise BadInput('audit: a verdict that is not 0, 1 or NaN: set a threshold on scores first')
  if gold.all() or not gold.any():
    raise BadInput(
      f'audit: all of the {len(gold)} samples are {"right" if gold.any() else "wrong"}: it needs '
      'both, so take an easier or harder task, or another policy'
    )
  accepted = said == 1
  positive = proportion(accepted[~gold], problems[~gold])
  negative = proportion(~accepted[gold], problems[gold])
  return Audit(
    false_positive=positive,
    false_negative=negative,
    precision=proportion(gold[accepted], problems[accepted]),
    accuracy=1 - (positive.value + negative.value) / 2,
    right=float(gold.mean()),
    failed=float(np.isnan(said).mean()),
    samples=len(gold),
    problems=len(np.unique(problems)),
  )


def thresholded(gold: np.ndarray, scores: np.ndarray, problems: np.ndarray) -> np.ndarray:
  """Scores as verdicts [N]: 1, 0, or NaN where there is no score.

  A sample is accepted from the threshold on that has the greatest balanced accuracy on the other
  half of the problems (in the order of a hash of their ids), so no sample judges its own. A fixed
  threshold, say a probability of 0.5, would refuse everything on a task that is rarely solved,
  however well the scores rank. BadInput where a half has no right, or no wrong, sample.
  """
  gold, scores = np.asarray(gold, bool), np.asarray(scores, np.float64)
  names, which = np.unique(np.asarray(problems).astype(str), return_inverse=True)
  order = sorted(range(len(names)), key=lambda i: hashlib.sha256(names[i].encode()).digest())
  first = np.isin(which, order[: len(names) // 2])
  said = np.full(len(scores), np.nan)
  there = ~np.isnan(scores)
  for half in (first, ~first):
    learned = ~half & there
    if gold[learned].all() or not gold[learned].any():
      raise BadInput(
        f'audit: {gold.sum()} of {len(gold)} samples are right, and in half of the problems none '
        'or all are: a threshold needs both in each half; take more problems, or an easier task'
      )
    order = np.argsort(-scores[learned], kind='stable')
    ranked, right = scores[learned][order], gold[learned][order]
    gained = np.cumsum(right) / right.sum() - np.cumsum(~right) / (~right).sum()
    last = np.append(ranked[1:] != ranked[:-1], True)  # of those with one score
    threshold = ranked[last][np.argmax(gained[last])]
    said[half & there] = scores[half & there] >= threshold
  return said


def best_of(
  right: np.ndarray, false_positive: float, false_negative: float, ks: Sequence[int]
) -> np.ndarray:
  """The expected accuracy of best-of-k by a verdict with mistakes: [K], the mean over problems.

  Of k samples one of those accepted is taken, of all where none is; resampling until one is
  accepted, at most k times, is the same. With p a problem's pass rate and a the chance that a
  sample of it is accepted,

      a = p (1 - f-) + (1 - p) f+
      accuracy = (1 - (1 - a)^k) p (1 - f-) / a  +  (1 - a)^k p f- / (1 - a)

  Mistakes are independent of each other here: one that comes back with the same wrong answer
  makes it worse, and best-of-k of the verdicts themselves (`analysis.estimators.best_of_k`) shows
  that. right: [P], estimated pass rates; a k of np.inf gives the `ceiling`.
  """
  p = np.asarray(right, np.float64)[:, None]
  k = np.asarray(ks, np.float64)[None]
  accepted = p * (1 - false_negative) + (1 - p) * false_positive
  with np.errstate(divide='ignore', invalid='ignore'):
    none = np.where(accepted > 0, (1 - accepted) ** k, 1.0)
    chosen = np.where(accepted > 0, p * (1 - false_negative) / accepted, 0.0)
    left = np.where(accepted < 1, p * false_negative / (1 - accepted), 0.0)
  return ((1 - none) * chosen + none * left).mean(axis=0)


def best_of_counts(
  n: int, c: np.ndarray, false_positive: float, false_negative: float, ks: Sequence[int]
) -> np.ndarray:
  """`best_of` of a bank, by its rates: [K], the mean over problems, unbiased.

  A problem's pass rate c / n in the formula above would be subsets drawn with replacement, which is
  too low. Here the k are drawn without: with j of them right (hypergeometric), A of those and B of
  the k - j others accepted (binomial), the answer is right with chance A / (A + B), or j / k where
  none is accepted. c: int [P], how many of a problem's n samples are right; ks at most n.
  """
  found = []
  for k in ks:
    j = np.arange(k + 1)
    a = stats.binom.pmf(np.arange(k + 1)[None], j[:, None], 1 - false_negative)  # [j, A]
    b = stats.binom.pmf(np.arange(k + 1)[None], (k - j)[:, None], false_positive)  # [j, B]
    total = j[:, None] + j[None]
    share = np.where(total > 0, j[:, None] / np.maximum(total, 1), 0.0)  # [A, B]
    chosen = np.einsum('ja,jb,ab->j', a, b, share) + a[:, 0] * b[:, 0] * j / k
    drawn = stats.hypergeom.pmf(j[None], n, np.asarray(c)[:, None], k)  # [P, j]
    found.append((drawn @ chosen).mean())
  return np.array(found)


def ceiling(right: np.ndarray, false_positive: float, false_negative: float) -> float:
  """What best-of-n tends to (2411.17501): the mean over problems of p (1 - f-) / a, a precision.

  More samples than some number do not help, whatever is spent. With f+ = 0 it is the part of the
  problems that are ever solved.
  """
  return float(best_of(right, false_positive, false_negative, [np.inf])[0])


def require(found: Audit, within: float, least_accuracy: float, what: str) -> None:
  """BadInput where the balanced accuracy of `what` is below config.rl.least_accuracy, or its
  ranking of samples of one problem is (`within`, their AUC; NaN: not known): what a policy learns
  from in groups, and what a verdict that knows hard problems from easy ones may lack.
  """
  mend = 'improve it, or set config.rl.least_accuracy=0'
  span = lambda rate: f'{rate.value:.3f} ({rate.lower:.3f} to {rate.upper:.3f})'
  if found.accuracy < least_accuracy:
    raise BadInput(
      f'{what}: balanced accuracy {found.accuracy:.3f} on {found.samples} samples of '
      f'{found.problems} problems (false positives {span(found.false_positive)}, false negatives '
      f'{span(found.false_negative)}), below config.rl.least_accuracy={least_accuracy:g}: {mend}'
    )
  if within < least_accuracy:
    raise BadInput(
      f'{what}: of a right and a wrong sample of one problem it prefers the right one in a part of '
      f'{within:.3f}, below config.rl.least_accuracy={least_accuracy:g} (.5 is chance): {mend}'
    )


def noisy(
  correct: np.ndarray,
  false_positive: float,
  false_negative: float,
  seed: int,
  update: int,
  problems: Sequence[str],
) -> np.ndarray:
  """Verdicts bool [P, G] with mistakes: a wrong sample is accepted, a right one refused, at a rate.

  Whether one is a mistake hangs on (seed, update, the problem's id, the sample's index) alone; at a
  higher rate the mistakes of a lower one stay. BadInput for a rate outside 0 to 1.
  """
  for name, rate in (('false_positive', false_positive), ('false_negative', false_negative)):
    if not 0 <= rate <= 1:
      raise BadInput(f'{name} is {rate}: it must be in [0, 1]')
  correct = np.asarray(correct, bool)
  G = correct.shape[1]
  drawn = np.array([[_uniform(seed, update, p, g) for g in range(G)] for p in problems])
  drawn = drawn.reshape(correct.shape)
  return np.where(correct, drawn >= false_negative, drawn < false_positive)


def _uniform(*parts) -> float:
  """A number in [0, 1) from a hash."""
  digest = hashlib.sha256(repr(('noise', *parts)).encode()).digest()
  return int.from_bytes(digest[:8], 'big') / 2**64
