"""Gold against proxy reward as a policy moves away from where it began (Gao et al., 2210.10760).

With d = sqrt(KL(policy || start)), the KL measured, the gain in gold reward is

    best_of_n   R(d) = d (alpha - beta d)
    rl          R(d) = d (alpha - beta log d)

Both are linear in alpha and beta, so a fit is least squares. The gold reward is greatest at
d = alpha / (2 beta), or exp(alpha / beta - 1); beyond it more proxy is less of what is meant.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis import style
from analysis.errors import BadInput
from analysis.style import ACCENT, INK, MUTED, Drawing

LEVEL = 0.95
FORMS: dict[str, Callable] = {  # what alpha and -beta multiply
  'best_of_n': lambda d: (d, d * d),
  'rl': lambda d: (d, d * np.log(np.maximum(d, 1e-300))),
}
PEAKS: dict[str, Callable] = {
  'best_of_n': lambda alpha, beta: alpha / (2 * beta),
  'rl': lambda alpha, beta: np.exp(alpha / beta - 1),
}


class Fit(NamedTuple):
  """One of FORMS with its parameters."""

  form: str
  alpha: float
  beta: float
  alpha_interval: tuple[float, float]  # of LEVEL, from the residuals
  beta_interval: tuple[float, float]
  peak: float  # d at which the gain is greatest; inf where it does not fall in any d
  rmse: float
  points: int


def curve(fit: Fit, kl: np.ndarray) -> np.ndarray:
  """The gain in gold reward at measured KLs [n]."""
  along, across = FORMS[fit.form](np.sqrt(np.asarray(kl, np.float64)))
  return fit.alpha * along - fit.beta * across


def fit(kl: np.ndarray, gain: np.ndarray, form: str) -> Fit:
  """Gao's `form` by least squares. kl [n]: measured, in nats; gain [n]: gold reward above that at
  KL 0. BadInput for another form, fewer than 3 points with a KL above 0, or numbers that are none.
  """
  if form not in FORMS:
    raise BadInput(f'form {form!r}: it must be one of {", ".join(FORMS)}')
  kl, gain = np.asarray(kl, np.float64), np.asarray(gain, np.float64)
  if kl.shape != gain.shape or not (np.isfinite(kl).all() and np.isfinite(gain).all()):
    raise BadInput(f'over-optimisation: {kl.shape} KLs and {gain.shape} gains: give one finite '
                   'number of each for every point')  # fmt: skip
  if (kl < 0).any():
    raise BadInput(f'over-optimisation: a KL of {kl.min():g}: it is measured, and at least 0')
  if len(np.unique(kl[kl > 0])) < 3:
    raise BadInput(
      'over-optimisation: fewer than 3 points with different KLs above 0: measure more'
    )
  kl, gain = kl[kl > 0], gain[kl > 0]
  along, across = FORMS[form](np.sqrt(kl))
  design = np.stack([along, -across], axis=1)
  (alpha, beta), *_ = np.linalg.lstsq(design, gain, rcond=None)
  rest = gain - design @ [alpha, beta]
  free = len(kl) - 2
  covariance = np.linalg.inv(design.T @ design) * (rest @ rest) / free
  half = stats.t.ppf((1 + LEVEL) / 2, free) * np.sqrt(np.diag(covariance))
  peak = float(PEAKS[form](alpha, beta)) if beta > 0 else np.inf
  return Fit(
    form,
    float(alpha),
    float(beta),
    (float(alpha - half[0]), float(alpha + half[0])),
    (float(beta - half[1]), float(beta + half[1])),
    peak,
    float(np.sqrt(np.mean(rest**2))),
    len(kl),
  )


def held_out(kl: np.ndarray, gain: np.ndarray, form: str, part: float = 0.3) -> float:
  """The root mean square error at the farthest `part` of the points, of a fit to the others."""
  order = np.argsort(kl, kind='stable')
  kl, gain = np.asarray(kl, np.float64)[order], np.asarray(gain, np.float64)[order]
  near = len(kl) - max(1, round(part * len(kl)))
  ahead = curve(fit(kl[:near], gain[:near], form), kl[near:])
  return float(np.sqrt(np.mean((gain[near:] - ahead) ** 2)))


def bound(n: np.ndarray) -> np.ndarray:
  """log n - (n - 1) / n: an upper bound on the KL of best-of-n.

  Reached only where no two samples tie; with discrete answers or a score of few values the KL is
  smaller, so it is to be measured and this said to be a bound.
  """
  n = np.asarray(n, np.float64)
  return np.log(n) - (n - 1) / n


@style.styled
def picture(kl: np.ndarray, gold: np.ndarray, proxy: np.ndarray, fits: list[Fit]) -> Drawing:
  """Gold and proxy gains [n] over sqrt(KL), with fits to the gold ones."""
  order = np.argsort(kl, kind='stable')
  kl, gold, proxy = (np.asarray(x, np.float64)[order] for x in (kl, gold, proxy))
  figure, axes = style.new(width=6.4, height=3.8)
  axes.plot(np.sqrt(kl), proxy, 'o--', color=MUTED, lw=1.0, label='proxy: what is optimised')
  axes.plot(np.sqrt(kl), gold, 'o', color=INK, label='gold: what is meant')
  along = np.linspace(0, kl.max(), 400)[1:]
  for found, line in zip(fits, ('-', ':'), strict=False):
    words = {'best_of_n': 'd(α − βd)', 'rl': 'd(α − β log d)'}[found.form]
    label = f'{words}: α {found.alpha:.3g}, β {found.beta:.3g}'
    axes.plot(np.sqrt(along), curve(found, along), line, color=ACCENT, label=label)
    if found.peak < np.sqrt(kl.max()):
      axes.axvline(found.peak, color=ACCENT, lw=0.7, alpha=0.5)
  axes.set_xlabel('d = √KL(policy ‖ start), measured, √nats')
  axes.set_ylabel('gain in reward')
  axes.set_title('Gold and proxy reward')
  axes.legend()
  past = [found for found in fits if found.peak < np.sqrt(kl.max())]
  caption = f'{len(kl)} points up to d = {np.sqrt(kl.max()):.2f}. '
  if past:
    caption += 'The gold reward is greatest at ' + ' and '.join(
      f'd = {found.peak:.2f} ({found.form})' for found in past
    )
    caption += ', and falls beyond.'
  else:
    caption += 'No peak of the gold reward lies within what was measured.'
  return Drawing(
    'overoptimization', 'Gold and proxy reward over the distance moved', figure, caption
  )
