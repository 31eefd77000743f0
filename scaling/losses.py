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
import numpy as np

from scaling.errors import BadInput


def cross_entropy(stats, batch, options: None):
  """-log p(token): the SFT and pretraining loss, nats per token."""
  del batch, options
  return -stats.logp, {}


class PolicyOptions(NamedTuple):
  """What the losses of a policy share; see `policy`."""

  clip_low: float = 0.2  # the ratio is clipped to [1 - low, 1 + high]
  clip_high: float = 0.2
  kl: str = ''  # penalty to the reference as a term of the loss: 'k2' or 'k3'; '': none
  entropy_coef: float = 0.0  # bonus for the entropy of each token's distribution
  importance_cap: float = 0.0  # truncated correction for the sampler (2508.03501); 0: none


def reinforce(stats, batch, options: PolicyOptions):
  """REINFORCE (Williams 1992), per token: -A log pi. batch: see `policy`."""
  return policy(stats, batch, options, -batch['advantages'] * stats.logp, stats.logp * 0)


def clipped(stats, batch, options: PolicyOptions):
  """PPO's clipped surrogate (1707.06347, eq. 7), per token, as GRPO, DAPO and RLOO have it too:

  -min(r A, clip(r, 1 - low, 1 + high) A),   r = pi / pi_old
  """
  ratio = jnp.exp(stats.logp - batch['old_logp'])
  return policy(stats, batch, options, *_surrogate(ratio, batch['advantages'], options))


def sequence_clipped(stats, batch, options: PolicyOptions):
  """GSPO (2507.18071, eq. 5): the clipped surrogate of the sequence's ratio,

      s = (pi(y) / pi_old(y))^(1 / |y|),

  which stands at each of its tokens, so weights that average over a response give its loss. Reads
  `mask` [B, T] besides: the response's tokens.
  """
  mask = batch['mask']
  per_token = (stats.logp - batch['old_logp']) * mask
  mean = per_token.sum(axis=1, keepdims=True) / mask.sum(axis=1, keepdims=True).clip(1)
  ratio = jnp.broadcast_to(jnp.exp(mean), mask.shape)
  return policy(stats, batch, options, *_surrogate(ratio, batch['advantages'], options))


def truncated(stats, batch, options: PolicyOptions):
  """CISPO (2506.13585, eq. 4), per token: the ratio is a clipped weight, and every token learns:

      -sg(min(r, 1 + high)) A log pi

  as ScaleRL (2510.13786) has it; with a finite `clip_low` below 1 the original's lower clip too.
  """
  ratio = jnp.exp(stats.logp - batch['old_logp'])
  weight = jax.lax.stop_gradient(jnp.clip(ratio, 1 - options.clip_low, 1 + options.clip_high))
  was_clipped = (weight != ratio).astype(jnp.float32)
  return policy(stats, batch, options, -weight * batch['advantages'] * stats.logp, was_clipped)


def policy(stats, batch, options: PolicyOptions, surrogate, was_clipped):
  """What all losses of a policy add to their surrogate [B, T]:

      min(pi_old / pi_sampler, cap) surrogate  +  beta KL  -  entropy_coef H

  The KL, a term of the loss: k2 or k3 of `kl_estimate`. (k1 has no gradient in expectation as a
  loss, and is refused; it may be a term of the reward.) The correction is for samples of another
  policy than pi_old: of stale parameters, or by other kernels (2508.03501); no gradient goes
  through it.

  batch: `advantages`, `old_logp` [B, T] (the learner's own scoring pass before the update);
  `reference_logp`, `kl_coef` (beta) and `weights` [B, T] where there is a KL; `sampler_logp` where
  there is a cap. watched: clipped, ratio_error, entropy, and kl, correction where they are.
  """
  ratio = jnp.exp(stats.logp - batch['old_logp'])
  watched = {
    'clipped': was_clipped,
    'ratio_error': jnp.abs(ratio - 1),
    'entropy': stats.entropy,
  }
  loss = surrogate
  if options.importance_cap:
    correction = jnp.exp(batch['old_logp'] - batch['sampler_logp'])
    correction = jnp.minimum(correction, options.importance_cap)
    loss, watched['correction'] = correction * loss, correction
  if options.kl:
    if options.kl not in ('k2', 'k3'):
      raise BadInput(
        f'config.rl.kl is {options.kl!r} as a term of the loss: k2 or k3 (k1 has no gradient in '
        "expectation); for a term of the reward set config.rl.kl_in='reward'"
      )
    # Where nothing counts the reference is 0, and what overflows there is NaN in the gradient.
    reference = jnp.where(batch['weights'] > 0, batch['reference_logp'], stats.logp)
    kl = kl_estimate(options.kl, stats.logp, reference)
    loss, watched['kl'] = loss + batch['kl_coef'] * kl, kl
  if options.entropy_coef:
    loss -= options.entropy_coef * stats.entropy
  return loss, watched


def _surrogate(ratio, advantages, options):
  """(-min(r A, clip(r) A), 1 where the clip is what counts)."""
  limited = jnp.clip(ratio, 1 - options.clip_low, 1 + options.clip_high) * advantages
  free = ratio * advantages
  return -jnp.minimum(free, limited), (free > limited).astype(jnp.float32)


def kl_estimate(name: str, logp, reference_logp):
  """KL(pi || pi_ref) of samples of pi, per token, by k1, k2 or k3 of log r = log pi_ref - log pi:

      k1 = -log r,   k2 = (log r)^2 / 2,   k3 = r - log r - 1

  (Schulman 2020, "Approximating KL divergence"). k1 and k3 are unbiased, k3 is never negative.
  """
  log_r = reference_logp - logp
  return {
    'k1': lambda: -log_r,
    'k2': lambda: log_r**2 / 2,
    'k3': lambda: jnp.exp(log_r) - log_r - 1,
  }[name]()


class ValueOptions(NamedTuple):
  clip: float = 0.2  # a value is clipped to within this of the old one; 0: not


def value(stats, batch, options: ValueOptions):
  """PPO's value loss (1707.06347; the clip as in OpenAI's baselines), per token:

      max((V - R)^2, (V_old + clip(V - V_old, -c, c) - R)^2) / 2

  of a critic: a model with a scalar head. batch: `returns`, `old_values` [B, T], of the state that
  stats.value is of.
  """
  error = (stats.value - batch['returns']) ** 2
  if options.clip:
    near = jnp.clip(stats.value - batch['old_values'], -options.clip, options.clip)
    error = jnp.maximum(error, (batch['old_values'] + near - batch['returns']) ** 2)
  return error / 2, {'value': stats.value}


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


# Advantages. Rewards are of P prompts x G responses, one a response, on the host.


def group_advantages(rewards_PxG: np.ndarray) -> np.ndarray:
  """GRPO: A = (r - mean) / (std + 1e-4) within each group; std with ddof 1, as TRL's."""
  centred = mean_advantages(rewards_PxG)
  return centred / (rewards_PxG.std(axis=1, ddof=1, keepdims=True) + 1e-4)


def mean_advantages(rewards_PxG: np.ndarray) -> np.ndarray:
  """Dr. GRPO (2503.20783): A = r - mean of the group."""
  return rewards_PxG - rewards_PxG.mean(axis=1, keepdims=True)


def leave_one_out(rewards_PxG: np.ndarray) -> np.ndarray:
  """RLOO (2402.14740): A_i = r_i - mean of the others = (r_i - mean) G / (G - 1)."""
  G = rewards_PxG.shape[1]
  return mean_advantages(rewards_PxG) * G / (G - 1)


def batch_advantages(rewards_PxG: np.ndarray) -> np.ndarray:
  """ScaleRL (2510.13786): less the group's mean, over the standard deviation of the whole batch."""
  centred = mean_advantages(rewards_PxG)
  return centred / (centred.std() + 1e-4)


def batch_mean(rewards_PxG: np.ndarray) -> np.ndarray:
  """REINFORCE with the mean of the batch as its baseline."""
  return rewards_PxG - rewards_PxG.mean()


def gae(rewards_BxT, values_BxT, mask_BxT, gamma: float, lam: float):
  """(advantages, returns) [B, T] by generalised advantage estimation (1506.02438):

      d_t = r_t + gamma V_{t+1} - V_t,   A_t = d_t + gamma lam A_{t+1},   returns = A + V

  rewards: of each token; values: V_t of the state before token t. A response is the True cells of
  its row of the mask, one step behind another whatever stands between them, and the state after its
  last token has value 0.
  """
  advantages = np.zeros(mask_BxT.shape, np.float64)
  after = next_value = np.zeros(len(mask_BxT))
  for t in range(mask_BxT.shape[1] - 1, -1, -1):
    d = rewards_BxT[:, t] + gamma * next_value - values_BxT[:, t]
    after = np.where(mask_BxT[:, t], d + gamma * lam * after, after)
    next_value = np.where(mask_BxT[:, t], values_BxT[:, t], next_value)
    advantages[:, t] = np.where(mask_BxT[:, t], after, 0.0)
  return advantages, np.where(mask_BxT, advantages + values_BxT, 0.0)


def whiten(x_BxT: np.ndarray, mask_BxT: np.ndarray) -> np.ndarray:
  """Mean 0 and standard deviation 1 over the cells of the mask, as PPO's advantages are."""
  inside = x_BxT[mask_BxT]
  return np.where(mask_BxT, (x_BxT - inside.mean()) / (inside.std() + 1e-8), 0.0)


def overlong_penalty(lengths, most: int, cache: int) -> np.ndarray:
  """DAPO's soft punishment (2503.14476, eq. 13), added to the reward of a response of y tokens:

      0 where y <= most - cache;   ((most - cache) - y) / cache up to most;   -1 beyond

  0 everywhere for a cache of 0.
  """
  lengths = np.asarray(lengths, np.float64)
  if cache == 0:
    return np.zeros(lengths.shape)
  return np.where(lengths > most, -1.0, np.minimum(0.0, (most - cache - lengths) / cache))


# Weights [B, T] that sum to 1: how tokens are averaged. Rows are G by G of one prompt; a row that
# the mask leaves empty counts for nothing.


def mean_over_tokens(mask_BxT: np.ndarray, group: int = 1) -> np.ndarray:
  """Over all tokens of the batch alike (DAPO's released code)."""
  return mask_BxT / mask_BxT.sum().clip(1)


def mean_over_responses(mask_BxT: np.ndarray, group: int = 1) -> np.ndarray:
  """Over each response's tokens, then over responses (GRPO as published)."""
  lengths = mask_BxT.sum(axis=1, keepdims=True)
  return mask_BxT / (lengths * (lengths > 0).sum().clip(1)).clip(1)


def mean_over_prompts(mask_BxT: np.ndarray, group: int = 1) -> np.ndarray:
  """Over the tokens of each prompt's group, then over prompts (DAPO as published; ScaleRL)."""
  tokens = mask_BxT.reshape(-1, group * mask_BxT.shape[1]).sum(axis=1)
  each = np.repeat(tokens, group)[:, None]
  return mask_BxT / (each * (tokens > 0).sum().clip(1)).clip(1)


def constant_length(mask_BxT: np.ndarray, group: int = 1) -> np.ndarray:
  """Sums over tokens, over a constant: the batch's width (Dr. GRPO, 2503.20783). Its sum is below 1
  where responses are shorter."""
  rows = (mask_BxT.sum(axis=1) > 0).sum().clip(1)
  return mask_BxT / (rows * mask_BxT.shape[1])


ADVANTAGES = {
  'group': group_advantages,
  'mean': mean_advantages,
  'leave_one_out': leave_one_out,
  'batch': batch_advantages,
  'batch_mean': batch_mean,
}  # and 'gae', which has a critic
AVERAGES = {
  'tokens': mean_over_tokens,
  'responses': mean_over_responses,
  'prompts': mean_over_prompts,
  'constant': constant_length,
}
POLICY = {
  'reinforce': reinforce,
  'clipped': clipped,
  'sequence_clipped': sequence_clipped,
  'truncated': truncated,
}


class Algorithm(NamedTuple):
  """A named way to learn from rollouts; each field may be set by the same one of config.rl."""

  loss: str  # of POLICY
  advantage: str  # of ADVANTAGES, or 'gae'
  average: str  # of AVERAGES
  clip_low: float = 0.2
  clip_high: float = 0.2
  # Groups whose rewards are all equal: 'keep'; 'drop' (they count for nothing in the averages); or
  # 'resample' (more prompts are drawn in their place).
  zero_variance: str = 'keep'
  overlong_cache: int = 0  # the last tokens of a response that `overlong_penalty` reaches into
  drop_passed: float = 0.0  # prompts whose pass rate was at least this are left out; 0: none


ALGORITHMS = {
  'reinforce': Algorithm('reinforce', 'batch_mean', 'responses'),
  'ppo': Algorithm('clipped', 'gae', 'tokens'),
  'grpo': Algorithm('clipped', 'group', 'responses'),
  'dr_grpo': Algorithm('clipped', 'mean', 'constant'),
  'dapo': Algorithm('clipped', 'group', 'prompts', 0.2, 0.28, 'resample', 4),
  'rloo': Algorithm('clipped', 'leave_one_out', 'responses'),
  'gspo': Algorithm('sequence_clipped', 'group', 'responses', 3e-4, 4e-4),
  'cispo': Algorithm('truncated', 'group', 'tokens', 1.0, 4.0),
  'scalerl': Algorithm('truncated', 'batch', 'prompts', 1.0, 4.0, 'drop', 0, 0.9),
}
