"""Every loss: a pure function of the learner's view of each token, and a batch.

    loss(stats, batch, options) -> (per_token[B,T], watched {name: per_token[B,T]})

stats: train_step.TokenStats; `stats.logp[:, t]` is the learner's log-probability of token t given
those before it, `stats.entropy[:, t]` the entropy of its distribution. The train step sums
`batch['weights'] * per_token`; how tokens, responses and groups are averaged is thus plain data:
the weights sum to one over the batch, and gradient accumulation is exact. The `watched` values are
summed by the same weights and reported. `pairs` and `pointwise` are of a model with a scalar head,
whose stats are train_step.TokenValues: `stats.value[:, t]` is what it says of the sequence up to
and including token t.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


def cross_entropy(stats, batch, options: None):
  """-log p(token): the SFT and pretraining loss, nats per token."""
  del batch, options
  return -stats.logp, {}


class GrpoOptions(NamedTuple):
  """Clipping range of the ratio, and the weight of the KL penalty to the reference."""

  clip_low: float = 0.2
  clip_high: float = 0.2
  kl_coef: float = 0.0


def grpo(stats, batch, options: GrpoOptions):
  """GRPO's clipped surrogate (2402.03300), per token:

      -min(r A, clip(r, 1 - low, 1 + high) A) + beta k3,
      r = pi / pi_old,  k3 = pi_ref / pi - log(pi_ref / pi) - 1

  The KL is a term of the loss, not of the reward. batch: `advantages` [B,T], `old_logp` [B,T]
  (the learner's own scoring pass before the update), and `reference_logp` where kl_coef > 0.
  """
  ratio = jnp.exp(stats.logp - batch['old_logp'])
  clipped = jnp.clip(ratio, 1 - options.clip_low, 1 + options.clip_high)
  surrogate = jnp.minimum(ratio * batch['advantages'], clipped * batch['advantages'])
  watched = {
    'clipped': (ratio * batch['advantages'] > surrogate).astype(jnp.float32),
    'ratio_error': jnp.abs(ratio - 1),
    'entropy': stats.entropy,
  }
  if options.kl_coef == 0:
    return -surrogate, watched
  log_r = batch['reference_logp'] - stats.logp
  k3 = jnp.exp(log_r) - log_r - 1
  return -surrogate + options.kl_coef * k3, watched | {'kl': k3}


def pairs(stats, batch, options: None):
  """Bradley-Terry (2203.02155, eq. 1), of a row that holds both sequences of a pair:

      -log sigma(r(y_w) - r(y_l))

  batch: `marks` [B,T], +1 at the last token of the chosen y_w, -1 at that of the rejected y_l, 0
  elsewhere. The loss of a row stands in each of its columns: its weights say which of them counts.
  """
  del options
  margin = jnp.sum(batch['marks'] * stats.value, axis=1, keepdims=True)
  right = jnp.where(margin > 0, 1.0, jnp.where(margin == 0, 0.5, 0.0))
  spread = lambda x: jnp.broadcast_to(x, stats.value.shape)
  return spread(jax.nn.softplus(-margin)), {'accuracy': spread(right), 'margin': spread(margin)}


def pointwise(stats, batch, options: None):
  """Binary cross-entropy of a value v with a label y in [0, 1], which may be soft:

      -y log sigma(v) - (1 - y) log(1 - sigma(v)) = softplus(v) - y v

  Of an outcome reward model (2110.14168) y is the verdict on the response, at its last token; of a
  process reward model (2312.08935, eq. 4) the share of roll-outs from a step that end right, at the
  step's last token. batch: `labels` [B,T]; the weights say where they are.
  """
  del options
  y = batch['labels']
  agrees = (stats.value > 0) == (y > 0.5)
  loss = jax.nn.softplus(stats.value) - y * stats.value
  return loss, {'accuracy': agrees.astype(jnp.float32)}


def group_advantages(rewards_PxG: jax.Array) -> jax.Array:
  """A = (r - mean) / (std + 1e-4) within each group of G samples; std with ddof 1, as TRL's."""
  mean = rewards_PxG.mean(axis=1, keepdims=True)
  return (rewards_PxG - mean) / (rewards_PxG.std(axis=1, ddof=1, keepdims=True) + 1e-4)


def mean_over_tokens(mask_BxT: jax.Array) -> jax.Array:
  """Weights that average over all counted tokens of the batch alike."""
  return mask_BxT / mask_BxT.sum()


def mean_over_responses(mask_BxT: jax.Array) -> jax.Array:
  """Weights that average over each row's tokens, then over rows (GRPO as published)."""
  lengths = mask_BxT.sum(axis=1, keepdims=True)
  return mask_BxT / (lengths * mask_BxT.shape[0]).clip(1)
