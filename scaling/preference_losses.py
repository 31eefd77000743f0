"""Losses on preferences between whole responses, in the form of `scaling.losses`.

A row holds both sequences of a pair, each a segment of its own, so the same train step serves.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class DpoOptions(NamedTuple):
  """The weight of the KL to the reference that the implied reward carries."""

  beta: float


def dpo(stats, batch, options: DpoOptions):
  """DPO (2305.18290, eq. 7), of a row that holds both sequences of a pair:

      -log sigma(r(y_w) - r(y_l)),   r(y) = beta sum over t of log(pi / pi_ref)(y_t)

  batch: `marks` [B,T], +1 at the tokens of the chosen response y_w, -1 at those of the rejected
  y_l, 0 elsewhere; `reference_logp` [B,T]. Marks of +1 / |y_w| and -1 / |y_l| make each reward a
  mean over tokens: length-normalised DPO, as Tulu 3 has it (2411.15124); without a reference it
  would be SimPO's reward (2405.14734). The loss of a row stands in each of its columns: its weights
  say how much of the batch the row is. Watched: accuracy (the chosen one's reward is the greater),
  margin, and the two rewards.
  """
  gain = options.beta * batch['marks'] * (stats.logp - batch['reference_logp'])
  side = lambda of: jnp.sum(jnp.where(of, gain, 0.0), axis=1, keepdims=True)
  chosen, rejected = side(batch['marks'] > 0), -side(batch['marks'] < 0)
  margin = chosen - rejected
  right = jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))
  spread = lambda x: jnp.broadcast_to(x, stats.logp.shape)
  watched = {'accuracy': right, 'margin': margin, 'chosen': chosen, 'rejected': rejected}
  return spread(jax.nn.softplus(-margin)), {name: spread(x) for name, x in watched.items()}
