"""Gold reward of RL as a policy moves away from where it began (Gao et al., 2210.10760).

With d = sqrt(KL(policy || start)), the KL measured, the gain in gold reward is

    R(d) = d (alpha - beta log d)

which is linear in alpha and beta, so a fit is least squares. The gold reward is greatest at
d = exp(alpha / beta - 1); beyond it more of the reward is less of what is meant. Of best-of-n there
is the law `gold_best_of_n`, for `analysis.fit`.
"""

from typing import NamedTuple

import numpy as np
from scipy import stats

from analysis.errors import BadInput

LEVEL = 0.95


class Fit(NamedTuple):
  """Gao's law of RL with its parameters."""

  alpha: float
  beta: float
  alpha_interval: tuple[float, float]  # of LEVEL, from the residuals
  beta_interval: tuple[float, float]
  peak: float  # d at which the gain is greatest; inf where it does not fall in any d
  rmse: float
  points: int


def terms(kl: np.ndarray) -> np.ndarray:
  """[n, 2]: what alpha and -beta multiply, d and d log d, at measured KLs [n]."""
  d = np.sqrt(np.asarray(kl, np.float64))
  return np.stack([d, d * np.log(np.maximum(d, 1e-300))], axis=-1)


def curve(fit: Fit, kl: np.ndarray) -> np.ndarray:
  """The gain in gold reward at measured KLs [n]."""
  return terms(kl) @ [fit.alpha, -fit.beta]


def fit(kl: np.ndarray, gain: np.ndarray) -> Fit:
  """The law by least squares. kl [n]: measured, in nats; gain [n]: gold reward above that at KL 0.
  BadInput for fewer than 3 points with a KL above 0, or numbers that are none.
  """
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
  design = terms(kl) * [1, -1]
  (alpha, beta), *_ = np.linalg.lstsq(design, gain, rcond=None)
  rest = gain - design @ [alpha, beta]
  free = len(kl) - 2
  covariance = np.linalg.inv(design.T @ design) * (rest @ rest) / free
  half = stats.t.ppf((1 + LEVEL) / 2, free) * np.sqrt(np.diag(covariance))
  return Fit(
    float(alpha),
    float(beta),
    (float(alpha - half[0]), float(alpha + half[0])),
    (float(beta - half[1]), float(beta + half[1])),
    float(np.exp(alpha / beta - 1)) if beta > 0 else np.inf,
    float(np.sqrt(np.mean(rest**2))),
    len(kl),
  )
