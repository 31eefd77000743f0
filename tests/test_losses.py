"""Losses against optax and against numbers worked by hand; the importance ratio end to end."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from scaling import losses, sample_step, sharding, stops, train_step
from scaling.model import transformer


def stats_of(logp):
  zero = jnp.zeros_like(logp)
  return train_step.TokenStats(logp, zero, zero)


def test_cross_entropy_is_optaxs():
  rng = np.random.default_rng(0)
  logits, labels = rng.normal(size=(3, 5, 7)).astype(np.float32), rng.integers(0, 7, (3, 5))
  logp = jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], -1)[..., 0]
  per_token, watched = losses.cross_entropy(stats_of(logp), {}, None)
  expected = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
  np.testing.assert_allclose(per_token, expected, rtol=1e-5)
  assert watched == {}


@pytest.mark.parametrize(
  'ratio, advantage, surrogate, slope, clipped',
  [  # slope: of the surrogate by log pi; 0 where the clip holds
    (1.0, 2.0, 2.0, 2.0, 0),
    (1.1, 2.0, 2.2, 2.2, 0),
    (1.5, 2.0, 2.6, 0.0, 1),  # better and already 1 + 0.3 likelier: no further
    (0.5, 2.0, 1.0, 1.0, 0),  # better but less likely: all the way back
    (1.0, -2.0, -2.0, -2.0, 0),
    (0.5, -2.0, -1.6, 0.0, 1),  # worse and already 1 - 0.2 as likely: no further
    (1.5, -2.0, -3.0, -3.0, 0),  # worse but likelier: all the way back
  ],
)
def test_grpo_by_hand(ratio, advantage, surrogate, slope, clipped):
  options = losses.GrpoOptions(clip_low=0.2, clip_high=0.3)
  old = jnp.full((1, 1), -1.2)
  batch = {'advantages': jnp.full((1, 1), advantage), 'old_logp': old}
  loss = lambda logp: losses.grpo(stats_of(logp), batch, options)
  logp = old + np.log(ratio)
  per_token, watched = loss(logp)
  np.testing.assert_allclose(per_token, -surrogate, rtol=1e-5)
  np.testing.assert_allclose(watched['ratio_error'], abs(ratio - 1), atol=1e-6)
  assert watched['clipped'] == clipped
  grad = jax.grad(lambda logp: loss(logp)[0].sum())(logp)
  np.testing.assert_allclose(grad, -slope, rtol=1e-5)


def test_the_kl_penalty_is_k3_by_hand():
  logp = jnp.log(jnp.array([[0.5, 0.25, 0.5]]))
  reference = jnp.log(jnp.array([[0.5, 0.5, 0.25]]))
  batch = {'advantages': jnp.zeros((1, 3)), 'old_logp': logp, 'reference_logp': reference}
  per_token, watched = losses.grpo(stats_of(logp), batch, losses.GrpoOptions(kl_coef=0.1))
  k3 = [[0, 2 - np.log(2) - 1, 0.5 + np.log(2) - 1]]
  np.testing.assert_allclose(watched['kl'], k3, atol=1e-6)
  np.testing.assert_allclose(per_token, 0.1 * np.array(k3), atol=1e-7)
  del batch['reference_logp']  # not read where it has no weight
  assert 'kl' not in losses.grpo(stats_of(logp), batch, losses.GrpoOptions())[1]


def values_of(value):
  return train_step.TokenValues(jnp.asarray(value, jnp.float32))


def numerical(loss, value, at, step=1e-2):
  """Central difference of a scalar loss by value[at]."""
  moved = [np.array(value, np.float64) for _ in range(2)]
  moved[0][at] += step
  moved[1][at] -= step
  return float(loss(moved[0]) - loss(moved[1])) / (2 * step)


def test_bradley_terry_by_hand_and_by_numerical_gradient():
  value = np.array([[9.0, 1.5, 9.0, 0.5, 9.0], [9.0, 9.0, -2.0, 1.0, 9.0], [0.3, 0, 0, 0.3, 0]])
  marks = np.array([[0, 1, 0, -1, 0], [0, 0, 1, -1, 0], [1, 0, 0, -1, 0]], np.float32)
  weights = (marks > 0) / 3

  def loss(value):
    per_token, watched = losses.pairs(values_of(value), {'marks': jnp.array(marks)}, None)
    return jnp.sum(weights * per_token), {k: jnp.sum(weights * x) for k, x in watched.items()}

  total, watched = loss(value)
  margins = np.array([1.0, -3.0, 0.0])
  assert total == pytest.approx(np.mean(-np.log(1 / (1 + np.exp(-margins)))), rel=1e-5)
  assert watched['accuracy'] == pytest.approx((1 + 0 + 0.5) / 3)
  assert watched['margin'] == pytest.approx(margins.mean(), abs=1e-6)
  grad = jax.grad(lambda v: loss(v)[0])(jnp.array(value))
  for at in np.ndindex(value.shape):
    assert grad[at] == pytest.approx(numerical(lambda v: loss(v)[0], value, at), abs=2e-4), at
  assert np.abs(np.asarray(grad)[marks == 0]).max() == 0


def test_pointwise_is_optaxs_and_torchs_with_soft_labels():
  rng = np.random.default_rng(0)
  value, labels = rng.normal(size=(3, 5)) * 4, rng.uniform(size=(3, 5))
  labels[0, :2] = 0, 1
  of = lambda v: losses.pointwise(values_of(v), {'labels': jnp.float32(labels)}, None)
  per_token, watched = of(value)
  expected = optax.sigmoid_binary_cross_entropy(jnp.float32(value), jnp.float32(labels))
  np.testing.assert_allclose(per_token, expected, rtol=1e-4, atol=1e-6)
  sigma = 1 / (1 + np.exp(-value))
  by_hand = -labels * np.log(sigma) - (1 - labels) * np.log(1 - sigma)
  np.testing.assert_allclose(per_token, by_hand, rtol=1e-4, atol=1e-6)
  np.testing.assert_array_equal(watched['accuracy'], (value > 0) == (labels > 0.5))
  grad = jax.grad(lambda v: of(v)[0].sum())(jnp.float32(value))
  np.testing.assert_allclose(grad, sigma - labels, atol=1e-5)
  for at in [(0, 0), (1, 3)]:
    assert grad[at] == pytest.approx(numerical(lambda v: of(v)[0].sum(), value, at), abs=2e-3)
  torch = pytest.importorskip('torch', reason='torch is among the peers (requirements-peers.txt)')
  theirs = torch.nn.functional.binary_cross_entropy_with_logits(
    torch.tensor(value), torch.tensor(labels), reduction='none'
  )
  np.testing.assert_allclose(per_token, theirs.numpy(), rtol=1e-4, atol=1e-6)


def test_group_advantages_by_hand():
  """Mean 0.25 and standard deviation 0.5 (ddof 1) in the first group; no spread in the others."""
  rewards = jnp.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
  expected = [[0.75 / 0.5001] + [-0.25 / 0.5001] * 3, [0] * 4, [0] * 4]
  np.testing.assert_allclose(losses.group_advantages(rewards), expected, rtol=1e-5)


def test_weights_average_over_tokens_or_over_responses():
  mask = jnp.array([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], jnp.float32)
  over_tokens = losses.mean_over_tokens(mask)
  np.testing.assert_allclose(over_tokens, mask / 4)
  by_row = losses.mean_over_responses(mask).sum(axis=1)
  np.testing.assert_allclose(
    by_row, [1 / 3, 1 / 3, 0], rtol=1e-6
  )  # an empty row counts for nothing
  assert losses.mean_over_responses(mask)[0, 0] == pytest.approx(1 / 9)


CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32
)
OPT = train_step.OptimizerConfig(0.9, 0.95, 0.0, 1.0)
P, N, S, T = 8, 4, 6, 10
TEMPERATURE = 0.7


@functools.lru_cache
def rollout():
  """(params, batch, sampler's log-probs, response mask) of prompts of S tokens, answered."""
  mesh = sharding.make_mesh()
  noise = lambda path, leaf: np.float32(
    np.random.default_rng(0).normal(0, 0.3, leaf.shape) + path[-1].key.endswith('norm')
  )
  form = jax.eval_shape(functools.partial(transformer.init, CFG), jax.random.key(0))
  params = jax.tree_util.tree_map_with_path(noise, form)
  prompts = np.random.default_rng(1).integers(2, 16, (P, S), dtype=np.int32)
  hashes = np.arange(2 * P, dtype=np.uint32).reshape(P, 2)
  shape, zero = sample_step.SampleShape(P, N, N, S, T), np.int32(0)
  drawn = sample_step.make_sampler(CFG, shape, mesh)(
    *(params, prompts, np.full(P, S, np.int32), hashes, jax.random.key(0), zero, zero),
    *(TEMPERATURE, stops.single(16, 1), sample_step.no_limits(shape)),
  )
  tokens = np.concatenate([np.repeat(prompts, N, 0), drawn.tokens.reshape(P * N, T)], 1)
  place = np.broadcast_to(np.arange(S + T, dtype=np.int32), tokens.shape)
  end = S + np.asarray(drawn.lengths).reshape(-1, 1)
  mask = (place >= S) & (place < end)
  batch = {'tokens': tokens, 'positions': place, 'segment_ids': np.int32(place < end)}
  sampled = np.pad(drawn.sampler_logprobs.reshape(P * N, T), ((0, 0), (S, 0)))
  return params, batch, sampled, mask


def ratio_error(old_logp, mask):
  """What the train step itself reports at the first update: mean of |pi / pi_old - 1|."""
  params, batch, _, _ = rollout()
  mesh = sharding.make_mesh()
  batch = batch | {
    'weights': np.asarray(losses.mean_over_tokens(mask), np.float32),
    'advantages': np.ones(mask.shape, np.float32),
    'old_logp': np.asarray(old_logp, np.float32),
  }
  state = jax.tree.map(
    lambda x: np.zeros(x.shape, x.dtype),
    jax.eval_shape(train_step.make_init(CFG, OPT, mesh), jax.random.key(0)),
  )
  state = jax.device_put(state._replace(params=params), train_step.layout(CFG, OPT, mesh))
  step = train_step.make_train_step(CFG, losses.grpo, losses.GrpoOptions(), OPT, mesh)
  return step(state, batch, 0.0, TEMPERATURE)[1]['ratio_error']


def scored(temperature=TEMPERATURE, **changed):
  """The learner's own scoring pass over the responses, 0 elsewhere."""
  params, batch, _, mask = rollout()
  score = train_step.make_score(CFG, sharding.make_mesh())
  return np.asarray(score(params, batch | changed, temperature)) * mask


def test_the_importance_ratio_is_one_at_the_first_update():
  assert ratio_error(scored(), rollout()[3]) < 1e-5


def test_the_samplers_log_probs_give_a_ratio_of_one():
  _, _, sampled, mask = rollout()
  assert ratio_error(sampled, mask) < 1e-4


@pytest.mark.parametrize('fault', ['temperature', 'mask', 'shift', 'positions', 'segments'])
def test_a_fault_in_scoring_shows_in_the_importance_ratio(fault):
  _, batch, _, mask = rollout()
  place = batch['positions']
  old_logp, counted = {
    'temperature': lambda: (scored(temperature=1.0), mask),
    'mask': lambda: (scored(), np.roll(mask, -1, axis=1)),
    'shift': lambda: (np.roll(scored(), 1, axis=1), mask),
    'positions': lambda: (scored(positions=2 * place), mask),
    'segments': lambda: (scored(segment_ids=np.int32(1 + (place >= S))), mask),
  }[fault]()
  assert ratio_error(old_logp, counted) > 1e-3
