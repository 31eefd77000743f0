"""DPO against numbers worked by hand, against torch, and end to end through the train step."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import preference_losses, sharding, train_step
from scaling.model import transformer
from scaling.stages import dpo

BETA = 0.3
OPTIONS = preference_losses.DpoOptions(BETA)
# two rows; the chosen response has 3 tokens, then 2; the rejected one 2, then 1
MARKS = np.array([[0, 1, 1, 1, 0, -1, -1], [0, 1, 1, 0, 0, -1, 0]], np.float32)


def stats_of(logp):
  zero = jnp.zeros_like(logp)
  return train_step.TokenStats(logp, zero, zero)


def dpo_of(logp, reference, marks=MARKS):
  batch = {'marks': jnp.asarray(marks), 'reference_logp': jnp.asarray(reference, jnp.float32)}
  return preference_losses.dpo(stats_of(jnp.asarray(logp, jnp.float32)), batch, OPTIONS)


def log_probs(seed):
  return -np.random.default_rng(seed).exponential(size=(2, *MARKS.shape))


def test_dpo_by_hand():
  """log ratios: chosen +1 + 2 - 0.5 = 2.5, rejected -1 + 0 = -1; margin 0.3 (2.5 - (-1)) = 1.05."""
  logp = np.zeros((1, 7))
  reference = np.array([[9.0, -1.0, -2.0, 0.5, 7.0, 1.0, 0.0]])
  loss, watched = dpo_of(logp, reference, MARKS[:1])
  np.testing.assert_allclose(loss, np.log(1 + np.exp(-1.05)), rtol=1e-6)
  by_name = {name: float(x[0, 0]) for name, x in watched.items()}
  assert by_name == pytest.approx(
    {'accuracy': 1, 'margin': 1.05, 'chosen': 0.75, 'rejected': -0.3}, rel=1e-5
  )
  normalised = MARKS[:1] / np.where(MARKS[:1] > 0, 3, 2)
  _, watched = dpo_of(logp, reference, normalised)
  assert watched['chosen'][0, 0] == pytest.approx(0.3 * 2.5 / 3, rel=1e-5)
  assert watched['rejected'][0, 0] == pytest.approx(0.3 * -1 / 2, rel=1e-5)


def test_equal_policies_give_log_2_and_a_gradient_of_half_beta():
  """The slope of -log sigma at 0 is -1 / 2: by logp it is -beta / 2 at chosen tokens."""
  logp = log_probs(0)[0]
  loss, watched = dpo_of(logp, logp)
  np.testing.assert_allclose(loss, np.log(2), rtol=1e-6)
  assert np.all(np.asarray(watched['accuracy']) == 0.5)
  slope = jax.grad(lambda x: dpo_of(x, logp)[0][:, 0].sum())(jnp.float32(logp))
  np.testing.assert_allclose(slope, -BETA / 2 * MARKS, rtol=1e-6)


def theirs(torch, logp, reference, normalised):
  """DPO as its authors' own function has it: sums (or means) of log-probs of either response."""
  logp, reference = (
    torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (logp, reference)
  )

  def response(x, sign):
    mask = torch.tensor(sign * MARKS == 1)
    total = (x * mask).sum(-1)
    return total / mask.sum(-1) if normalised else total

  policy = response(logp, 1) - response(logp, -1)
  other = response(reference, 1) - response(reference, -1)
  loss = -torch.nn.functional.logsigmoid(BETA * (policy - other))
  loss.sum().backward()
  return loss.detach().numpy(), logp.grad.numpy()


@pytest.mark.peers
@pytest.mark.parametrize('normalised', [False, True])
def test_loss_and_gradient_are_torchs(normalised):
  torch = pytest.importorskip('torch', reason='torch is among the peers (requirements-peers.txt)')
  logp, reference = log_probs(1)
  lengths = np.array([[1, 3, 3, 3, 1, 2, 2], [1, 2, 2, 1, 1, 1, 1]], np.float32)
  marks = MARKS / lengths if normalised else MARKS
  loss, slope = theirs(torch, logp, reference, normalised)
  np.testing.assert_allclose(dpo_of(logp, reference, marks)[0][:, 0], loss, rtol=1e-5)
  mine = jax.grad(lambda x: dpo_of(x, reference, marks)[0][:, 0].sum())(jnp.float32(logp))
  np.testing.assert_allclose(mine, slope, rtol=1e-4, atol=1e-7)


@jax.jit
def alone(params, tokens):
  return transformer.apply(CFG, params, tokens, jnp.arange(tokens.shape[1])[None])[0]


CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=32
)
OPT = train_step.OptimizerConfig(0.9, 0.95, 0.0, 1e9)


@pytest.mark.parametrize('normalised', [False, True])
def test_a_packed_row_is_each_response_scored_alone(normalised):
  """The train step's loss of pairs in rows, against one forward pass a sequence."""
  mesh, rng = sharding.make_mesh(), np.random.default_rng(2)
  lengths, starts = [7, 5, 9, 6], np.array([3, 3, 2, 2])
  sequences = [rng.integers(2, 16, n).astype(np.int32) for n in lengths]
  pairs = np.array([[0, 1], [3, 2]])
  params = transformer.init(CFG, jax.random.key(0))
  reference = transformer.init(CFG, jax.random.key(1))

  def reward(i):
    def response(params):
      tokens = np.pad(sequences[i], (0, 16 - lengths[i]))[None]  # what is behind is not looked at
      logits = alone(params, tokens)
      logp = np.asarray(jax.nn.log_softmax(logits[0].astype(jnp.float32)), np.float64)
      return logp[np.arange(starts[i] - 1, lengths[i] - 1), sequences[i][starts[i] :]].sum()

    size = lengths[i] - starts[i] if normalised else 1
    return BETA * (response(params) - response(reference)) / size

  margins = np.array([reward(a) - reward(b) for a, b in pairs])
  rows = dpo.pair_batch(sequences, starts, pairs, 16, normalised)
  score = train_step.make_score(CFG, mesh)
  rows['reference_logp'] = np.asarray(score(reference, rows, 1.0))
  state = train_step.make_restart(CFG, OPT, mesh)(params, jax.random.key(2))
  step = train_step.make_train_step(CFG, preference_losses.dpo, OPTIONS, OPT, mesh)
  _, metrics = step(state, rows, 0.0, 1.0)
  assert metrics['loss'] == pytest.approx(np.log1p(np.exp(-margins)).mean(), rel=1e-4)
  assert metrics['margin'] == pytest.approx(margins.mean(), rel=1e-3)
  assert metrics['accuracy'] == np.mean(margins > 0)
