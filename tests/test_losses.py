"""Losses against optax and against numbers worked by hand; the importance ratio end to end."""

import functools

import hypothesis
import hypothesis.extra.numpy as hnp
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st

from scaling import losses, sample_step, sharding, train_step
from scaling.errors import BadInput
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


def values_of(value):
  return train_step.TokenValues(jnp.asarray(value, jnp.float32))


def token_stats_of(logp, entropy=0.0):
  logp = jnp.asarray(logp)
  return train_step.TokenStats(logp, jnp.full_like(logp, entropy), jnp.zeros_like(logp))


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
def test_the_clipped_surrogate_by_hand(ratio, advantage, surrogate, slope, clipped):
  options = losses.PolicyOptions(clip_low=0.2, clip_high=0.3)
  old = jnp.full((1, 1), -1.2)
  batch = {'advantages': jnp.full((1, 1), advantage), 'old_logp': old}
  loss = lambda logp: losses.clipped(stats_of(logp), batch, options)
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
  batch['kl_coef'], batch['weights'] = jnp.full((1, 3), 0.1), jnp.ones((1, 3))
  per_token, watched = losses.clipped(stats_of(logp), batch, losses.PolicyOptions(kl='k3'))
  k3 = [[0, 2 - np.log(2) - 1, 0.5 + np.log(2) - 1]]
  np.testing.assert_allclose(watched['kl'], k3, atol=1e-6)
  np.testing.assert_allclose(per_token, 0.1 * np.array(k3), atol=1e-7)
  del batch['reference_logp'], batch['kl_coef']  # not read where it has no weight
  assert 'kl' not in losses.clipped(stats_of(logp), batch, losses.PolicyOptions())[1]


def test_a_cell_that_counts_for_nothing_has_no_kl_however_unlikely_its_token():
  """A padding token's log-probability may be anything, and the reference there is 0."""
  batch = {
    'advantages': jnp.zeros((1, 2)), 'old_logp': jnp.zeros((1, 2)), 'kl_coef': jnp.ones((1, 2)),
    'reference_logp': jnp.array([[-1.0, 0.0]]), 'weights': jnp.array([[1.0, 0.0]]),
  }  # fmt: skip

  def loss(logp):
    per_token, _ = losses.clipped(stats_of(logp), batch, losses.PolicyOptions(kl='k3'))
    return jnp.sum(batch['weights'] * per_token)

  value, grad = jax.value_and_grad(loss)(jnp.array([[-1.2, -500.0]]))
  assert value == pytest.approx(np.exp(0.2) - 0.2 - 1, rel=1e-5)
  np.testing.assert_allclose(grad, [[1 - np.exp(0.2), 0]], rtol=1e-5)


def test_kl_estimates_of_samples_have_the_mean_of_the_divergence_and_of_its_gradient():
  """Over all tokens of a small vocabulary, weighted by pi: no sampling noise. k1 and k3 have the
  KL as mean; of the gradients of their values by the policy's logits that of k2 is the KL's, that
  of k1 is zero."""
  rng = np.random.default_rng(0)
  logits, reference = jnp.asarray(rng.normal(size=5)), jax.nn.log_softmax(rng.normal(size=5))
  pi = jax.lax.stop_gradient(jax.nn.softmax(logits))
  mean = lambda name, x: jnp.sum(pi * losses.kl_estimate(name, jax.nn.log_softmax(x), reference))
  divergence = lambda x: jnp.sum(jax.nn.softmax(x) * (jax.nn.log_softmax(x) - reference))
  for name in ('k1', 'k3'):
    np.testing.assert_allclose(mean(name, logits), divergence(logits), rtol=1e-5)
  gradient = lambda name: jax.grad(lambda x: mean(name, x))(logits)
  np.testing.assert_allclose(gradient('k1'), 0, atol=1e-6)
  np.testing.assert_allclose(gradient('k2'), jax.grad(divergence)(logits), atol=1e-5)
  with pytest.raises(BadInput, match='k1 has no gradient'):
    batch = {name: jnp.zeros((1, 1)) for name in ('advantages', 'old_logp')}
    losses.clipped(token_stats_of([[0.0]]), batch, losses.PolicyOptions(kl='k1'))


def test_reinforce_cispo_and_gspo_by_hand():
  logp, old = jnp.log(jnp.array([[0.6, 0.1, 0.5]])), jnp.log(jnp.array([[0.2, 0.2, 0.5]]))
  batch = {'advantages': jnp.array([[2.0, -1.0, 3.0]]), 'old_logp': old}
  per_token, _ = losses.reinforce(token_stats_of(logp), batch, losses.PolicyOptions())
  np.testing.assert_allclose(
    per_token, [[-2 * np.log(0.6), np.log(0.1), -3 * np.log(0.5)]], rtol=1e-5
  )

  options = losses.PolicyOptions(clip_low=1.0, clip_high=1.0)  # weights in [0, 2]: 3 becomes 2
  of = lambda logp: losses.truncated(token_stats_of(logp), batch, options)
  per_token, watched = of(logp)
  weights = np.array([2.0, 0.5, 1.0]) * [2.0, -1.0, 3.0]
  np.testing.assert_allclose(per_token, [-weights * np.log([0.6, 0.1, 0.5])], rtol=1e-5)
  np.testing.assert_array_equal(watched['clipped'], [[1, 0, 0]])
  grad = jax.grad(lambda logp: of(logp)[0].sum())(logp)  # clipped tokens learn too
  np.testing.assert_allclose(grad, [-weights], rtol=1e-5)

  batch |= {'advantages': jnp.full((1, 3), 2.0), 'mask': jnp.array([[1.0, 1.0, 0.0]])}
  options = losses.PolicyOptions(clip_low=0.1, clip_high=0.1)
  per_token, watched = losses.sequence_clipped(token_stats_of(logp), batch, options)
  ratio = np.exp((np.log(3) + np.log(0.5)) / 2)  # 1.22: beyond 1.1
  np.testing.assert_allclose(per_token, np.full((1, 3), -2 * min(ratio, 1.1)), rtol=1e-5)
  assert np.all(watched['clipped'] == 1)


def test_the_correction_for_stale_samples_is_truncated_and_carries_no_gradient():
  logp = jnp.log(jnp.array([[0.5, 0.5]]))
  batch = {'advantages': jnp.ones((1, 2)), 'old_logp': logp}
  batch['sampler_logp'] = jnp.log(jnp.array([[0.1, 0.8]]))  # 5 times as likely now; 0.625 times
  options = losses.PolicyOptions(importance_cap=2.0)
  of = lambda logp: losses.clipped(token_stats_of(logp), batch, options)
  per_token, watched = of(logp)
  np.testing.assert_allclose(watched['correction'], [[2.0, 0.625]], rtol=1e-6)
  np.testing.assert_allclose(per_token, [[-2.0, -0.625]], rtol=1e-6)
  grad = jax.grad(lambda logp: of(logp)[0].sum())(logp)
  np.testing.assert_allclose(grad, [[-2.0, -0.625]], rtol=1e-6)


def test_the_entropy_bonus_lowers_the_loss():
  batch = {'advantages': jnp.zeros((1, 1)), 'old_logp': jnp.zeros((1, 1))}
  options = losses.PolicyOptions(entropy_coef=0.1)
  per_token, _ = losses.clipped(token_stats_of([[0.0]], entropy=3.0), batch, options)
  np.testing.assert_allclose(per_token, -0.3, rtol=1e-6)


def test_the_value_loss_is_clipped_as_in_ppo():
  batch = {'returns': jnp.array([[1.0, 1.0, 1.0]]), 'old_values': jnp.array([[0.0, 0.0, 0.9]])}
  value = [[0.1, 0.9, 1.0]]  # the second moved further than 0.2: its error counts from 0.2
  per_token, _ = losses.value(values_of(value), batch, losses.ValueOptions(clip=0.2))
  np.testing.assert_allclose(per_token, [[0.81 / 2, 0.64 / 2, 0.0]], atol=1e-6)
  free, _ = losses.value(values_of(value), batch, losses.ValueOptions(clip=0.0))
  np.testing.assert_allclose(free, [[0.81 / 2, 0.01 / 2, 0.0]], atol=1e-6)


REWARDS = np.array([[1.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 3.0]])


def test_advantages_by_hand():
  half = 0.5 / (np.sqrt(1 / 3) + 1e-4)
  np.testing.assert_allclose(losses.group_advantages(REWARDS)[0], [half, -half, -half, half])
  assert (losses.group_advantages(REWARDS)[1] == 0).all()
  np.testing.assert_allclose(losses.mean_advantages(REWARDS)[2], [-0.75, -0.75, -0.75, 2.25])
  np.testing.assert_allclose(losses.leave_one_out(REWARDS)[2], [-1, -1, -1, 3])
  np.testing.assert_allclose(losses.leave_one_out(REWARDS)[0], [2 / 3, -2 / 3, -2 / 3, 2 / 3])
  centred = losses.mean_advantages(REWARDS)
  np.testing.assert_allclose(losses.batch_advantages(REWARDS), centred / (centred.std() + 1e-4))
  np.testing.assert_allclose(losses.batch_mean(REWARDS), REWARDS - 0.75)


@hypothesis.given(
  hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=2, max_side=6),
             elements=st.floats(-5, 5)), st.floats(-3, 3))  # fmt: skip
def test_advantages_do_not_change_when_all_rewards_do(rewards, shift):
  for name, of in losses.ADVANTAGES.items():
    np.testing.assert_allclose(of(rewards + shift), of(rewards), atol=1e-6, err_msg=name)
    if name != 'batch_mean':
      np.testing.assert_allclose(of(rewards).sum(axis=1), 0, atol=1e-6, err_msg=name)


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(0, 10**6), st.floats(0, 1), st.floats(0, 1))
def test_gae_is_the_sum_of_discounted_errors(seed, gamma, lam):
  rng = np.random.default_rng(seed)
  B, T = 3, 6
  lengths = rng.integers(1, T + 1, B)
  mask = np.arange(T) < lengths[:, None]
  rewards, values = rng.normal(size=(2, B, T)) * mask
  advantages, returns = losses.gae(rewards, values, mask, gamma, lam)
  for b, length in enumerate(lengths):
    after = np.append(values[b, 1:length], 0)  # nothing is worth anything past the end
    errors = rewards[b, :length] + gamma * after - values[b, :length]
    expected = [
      sum((gamma * lam) ** (s - t) * errors[s] for s in range(t, length)) for t in range(length)
    ]
    np.testing.assert_allclose(advantages[b, :length], expected, atol=1e-9)
    np.testing.assert_allclose(returns[b, :length], values[b, :length] + expected, atol=1e-9)
    assert not advantages[b, length:].any() and not returns[b, length:].any()
  # the same steps with others between them, that are not the policy's: nothing changes
  places = np.sort(rng.permutation(2 * T)[:T])

  def put(x, rest):
    wide = np.full((B, 2 * T), rest)
    wide[:, places] = x
    return wide

  apart = losses.gae(put(rewards, 3.0), put(values, 5.0), put(mask, False), gamma, lam)
  for a, b in zip(apart, (advantages, returns), strict=True):
    np.testing.assert_allclose(a, put(b, 0.0), atol=1e-12)
  whole = losses.gae(rewards, values, mask, 1.0, 1.0)[1][:, 0]
  np.testing.assert_allclose(whole, rewards.sum(axis=1), atol=1e-9)


def test_whitened_advantages_have_mean_0_and_deviation_1_within_the_mask():
  rng = np.random.default_rng(0)
  mask = rng.uniform(size=(4, 5)) < 0.6
  x = losses.whiten(rng.normal(3, 7, (4, 5)), mask)
  assert abs(x[mask].mean()) < 1e-9 and x[mask].std() == pytest.approx(1) and not x[~mask].any()


def test_daposs_penalty_by_hand():
  got = losses.overlong_penalty(np.array([[3, 6, 8], [9, 10, 11]]), most=10, cache=4)
  np.testing.assert_allclose(got, [[0, 0, -0.5], [-0.75, -1, -1]])
  assert not losses.overlong_penalty([[3, 10]], most=10, cache=0).any()


MASK = np.array([[1, 0, 0, 0], [1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1]], np.float32)


def test_averages_by_hand():
  x = np.arange(16.0).reshape(4, 4)
  of = lambda average: float((losses.AVERAGES[average](MASK, 2) * x).sum())
  rows = [[0], [4, 5, 6], [8, 9], [12, 13, 14, 15]]
  flat = [v for row in rows for v in row]
  assert of('tokens') == pytest.approx(np.mean(flat))
  assert of('responses') == pytest.approx(np.mean([np.mean(row) for row in rows]))
  groups = [rows[0] + rows[1], rows[2] + rows[3]]
  assert of('prompts') == pytest.approx(np.mean([np.mean(group) for group in groups]))
  assert of('constant') == pytest.approx(sum(flat) / (4 * 4))
  kept = MASK * [[1], [1], [0], [0]]  # a group that is dropped counts for nothing
  for name, average in losses.AVERAGES.items():
    np.testing.assert_allclose(average(kept, 2)[:2], average(MASK[:2], 2), rtol=1e-6, err_msg=name)
    assert not average(0 * MASK, 2).any()


def test_every_algorithm_names_what_there_is():
  for name, how in losses.ALGORITHMS.items():
    assert how.loss in losses.POLICY, name
    assert how.advantage in [*losses.ADVANTAGES, 'gae'], name
    assert how.average in losses.AVERAGES, name
    assert how.zero_variance in ('keep', 'drop', 'resample'), name


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
  rewards = np.array([[1.0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]])
  expected = [[0.75 / 0.5001] + [-0.25 / 0.5001] * 3, [0] * 4, [0] * 4]
  np.testing.assert_allclose(losses.group_advantages(rewards), expected, rtol=1e-5)


def test_weights_average_over_tokens_or_over_responses():
  mask = np.array([[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 0]], np.float32)
  over_tokens = losses.mean_over_tokens(mask)
  np.testing.assert_allclose(over_tokens, mask / 4)
  by_row = losses.mean_over_responses(mask).sum(axis=1)
  np.testing.assert_allclose(
    by_row, [1 / 2, 1 / 2, 0], rtol=1e-6
  )  # an empty row counts for nothing
  assert losses.mean_over_responses(mask)[0, 0] == pytest.approx(1 / 6)


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
  ends = np.stack([np.arange(16) == 1, np.ones(16)]).astype(np.int32)  # at token 1
  drawn = sample_step.make_sampler(CFG, shape, mesh)(
    *(params, prompts, np.full(P, S, np.int32), hashes, jax.random.key(0), zero, zero),
    *(TEMPERATURE, ends, sample_step.no_limits(shape)),
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
  step = train_step.make_train_step(CFG, losses.clipped, losses.PolicyOptions(), OPT, mesh)
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
