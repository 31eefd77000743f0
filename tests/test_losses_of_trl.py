"""The losses of a policy and their gradients, against those of TRL's GRPOTrainer.

TRL's loss is called as it stands, on a trainer that holds its options alone, with the log-probs of
a made-up policy in place of a model's.
"""

import collections
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import losses, train_step

pytestmark = pytest.mark.peers

B, T, GROUP = 8, 6, 4
# name: (what TRL is asked for, our loss, average and clips)
PAIRS = {
  'grpo': (dict(loss_type='grpo'), 'clipped', 'responses', (0.2, 0.2)),
  'grpo, clip higher': (dict(loss_type='grpo'), 'clipped', 'responses', (0.2, 0.28)),
  'dr_grpo': (dict(loss_type='dr_grpo'), 'clipped', 'constant', (0.2, 0.2)),
  'dapo, as released': (dict(loss_type='dapo'), 'clipped', 'tokens', (0.2, 0.28)),
  'gspo': (
    dict(loss_type='grpo', importance_sampling_level='sequence'),
    'sequence_clipped',
    'responses',
    (3e-4, 4e-4),
  ),
  'cispo': (dict(loss_type='cispo'), 'truncated', 'tokens', (1.0, 0.3)),
}


def of_trl(options, clips, beta, logp, rows):
  """(loss, its gradient by logp [B, T]) by TRL; rows: of numpy."""
  torch = pytest.importorskip('torch')
  trainer = pytest.importorskip('trl.trainer.grpo_trainer', reason='TRL is among the peers')
  given = torch.tensor(logp, requires_grad=True)
  kept = lambda name: torch.tensor(np.asarray(rows[name], np.float32))
  accelerator = types.SimpleNamespace(
    num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x, sync_gradients=True
  )
  upper = clips[1] + (options['loss_type'] == 'cispo')  # there it is the cap of the ratio itself
  empty = torch.zeros(B, 0, dtype=torch.long)
  held = types.SimpleNamespace(
    _get_per_token_logps_and_entropies=lambda *args, **kw: (given, torch.zeros(B, T), None),
    args=types.SimpleNamespace(
      use_bias_correction_kl=False, delta=None, steps_per_generation=1
    ),
    accelerator=accelerator, model=types.SimpleNamespace(training=True), beta=beta,
    epsilon_low=clips[0], epsilon_high=upper, max_completion_length=T, top_entropy_quantile=1.0,
    off_policy_mask_threshold=None, aux_loss_enabled=False, use_vllm=False,
    current_gradient_accumulation_steps=1, _entropy_bonus_enabled=False,
    _metrics={'train': collections.defaultdict(list)}, importance_sampling_level='token',
  )  # fmt: skip
  vars(held).update(options)
  inputs = {
    'prompt_ids': empty,
    'prompt_mask': empty,
    'completion_ids': torch.zeros(B, T, dtype=torch.long),
    'completion_mask': kept('mask'),
    'advantages': kept('advantages')[:, 0],
    'old_per_token_logps': kept('old_logp'),
    'ref_per_token_logps': kept('reference_logp'),
    'num_items_in_batch': kept('mask').sum(),
  }
  loss = trainer.GRPOTrainer._compute_loss(held, held.model, inputs)
  loss.backward()
  return loss.item(), given.grad.numpy()


@pytest.mark.parametrize('beta', [0.0, 0.05])
@pytest.mark.parametrize('name', PAIRS)
def test_loss_and_gradient_are_trls(name, beta):
  options, loss, average, clips = PAIRS[name]
  rng = np.random.default_rng(0)
  old = rng.uniform(-3, -0.1, (B, T)).astype(np.float32)
  spread = 0.4 if loss != 'sequence_clipped' else 2e-3  # about half of the tokens are clipped
  logp = (old + rng.normal(0, spread, (B, T))).astype(np.float32)
  mask = np.arange(T) < rng.integers(1, T + 1, B)[:, None]
  rewards = rng.integers(0, 2, (B // GROUP, GROUP)).astype(np.float32)
  assert (rewards.std(axis=1) > 0).all()
  advantages = np.broadcast_to(losses.group_advantages(rewards).reshape(-1, 1), (B, T))
  rows = {
    'advantages': advantages.astype(np.float32), 'old_logp': old, 'mask': mask,
    'reference_logp': (old + rng.normal(0, 0.3, (B, T))).astype(np.float32),
    'kl_coef': np.full((B, T), beta, np.float32),
  }  # fmt: skip
  theirs = of_trl(options, clips, beta, logp, rows)

  weights = losses.AVERAGES[average](mask.astype(np.float32), GROUP)
  rows['weights'] = weights
  policy = losses.PolicyOptions(*clips, kl='k3' if beta else '')
  zero = jnp.zeros((B, T))

  def ours(logp):
    stats = train_step.TokenStats(logp, zero, zero)
    per_token, watched = losses.POLICY[loss](stats, rows, policy)
    return (weights * per_token).sum(), watched['clipped']

  (value, clipped), gradient = jax.value_and_grad(ours, has_aux=True)(jnp.asarray(logp))
  assert 0 < clipped[mask].mean() < 1  # both sides of the clip are met
  assert value == pytest.approx(theirs[0], rel=1e-5, abs=1e-6)
  np.testing.assert_allclose(gradient, theirs[1], rtol=1e-5, atol=1e-7)
