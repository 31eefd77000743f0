"""The train step: its numbers on any mesh, its parts one by one, and its schedule."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import losses, sharding, train_step
from scaling.model import transformer

CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32, qk_norm=True
)
B, T = 16, 12
B1 = 0.9
OPT = train_step.OptimizerConfig(b1=B1, b2=0.95, weight_decay=0.1, clip_norm=1e9)  # never clips


@functools.lru_cache
def initial_params():
  """Noise of a fresh model's scale, in NumPy: quicker than compiling the initialisation."""
  rng = np.random.default_rng(1)
  noise = lambda path, leaf: np.float32(
    rng.normal(0, 0.2, leaf.shape) + path[-1].key.endswith('norm')
  )
  shapes = jax.eval_shape(functools.partial(transformer.init, CFG), jax.random.key(0))
  return jax.tree_util.tree_map_with_path(noise, shapes)


def batch():
  rng = np.random.default_rng(0)
  segment_ids = np.tile(np.repeat([1, 2, 0], [5, 4, 3]), (B, 1)).astype(np.int32)
  positions = np.tile(np.r_[:5, :4, :3], (B, 1)).astype(np.int32)
  mask = (segment_ids > 0) & (positions > 0) & (rng.random((B, T)) < 0.7)
  return {
    'tokens': rng.integers(0, CFG.vocab_size, (B, T), dtype=np.int32),
    'positions': positions,
    'segment_ids': segment_ids,
    'weights': np.asarray(losses.mean_over_tokens(mask), np.float32),
  }


def batch_on(mesh, **changed):
  return jax.device_put(batch() | changed, sharding.rows(mesh))


def fresh_state(mesh):
  form = jax.eval_shape(train_step.make_init(CFG, OPT, mesh), jax.random.key(0))
  state = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), form)
  return jax.device_put(state._replace(params=initial_params()), train_step.layout(CFG, OPT, mesh))


def step_on(mesh, microbatches=1):
  return train_step.make_train_step(CFG, losses.cross_entropy, None, OPT, mesh, microbatches)


@functools.lru_cache
def one_step(data=1, fsdp=1, tensor=1, microbatches=1):
  """(state, metrics) after one step from the same parameters on the same batch, as NumPy."""
  mesh = sharding.make_mesh(data, fsdp, tensor)
  step = step_on(mesh, microbatches)
  return jax.tree.map(np.asarray, step(fresh_state(mesh), batch_on(mesh), 1e-3, 1.0))


def gradients(state):
  """Adam's first moment after one step from zero is (1 - b1) times the clipped gradient."""
  return jax.tree.map(lambda m: m / (1 - B1), state.opt_state[1].mu)


def assert_close(tree, expected, relative):
  """Each array within `relative` of the largest entry of the one expected."""
  close = lambda x, y: np.testing.assert_allclose(x, y, rtol=0, atol=relative * np.abs(y).max())
  jax.tree.map(close, tree, expected)


def test_the_gradient_is_that_of_the_mean_cross_entropy():
  """The oracle: log-softmax and autodiff in place of the step's own arithmetic."""
  data = batch()

  def objective(params):
    logits, _ = transformer.apply(
      CFG, params, data['tokens'], data['positions'], data['segment_ids']
    )
    logp = jax.nn.log_softmax(logits)[:, :-1]
    chosen = jnp.take_along_axis(logp, data['tokens'][:, 1:, None], -1)[..., 0]
    entropy = -jnp.sum(jnp.exp(logp) * logp, -1)
    weights = data['weights'][:, 1:]
    return -jnp.sum(weights * chosen), jnp.sum(weights * entropy)

  (loss, entropy), grads = jax.tree.map(
    np.asarray, jax.jit(jax.value_and_grad(objective, has_aux=True))(initial_params())
  )
  state, metrics = one_step()
  assert metrics['loss'] == pytest.approx(loss, rel=1e-6)
  assert metrics['entropy'] == pytest.approx(entropy, rel=1e-6)
  assert_close(gradients(state), grads, 1e-5)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  assert metrics['grad_norm'] == pytest.approx(norm, rel=1e-5)


@pytest.mark.parametrize(
  'mesh',
  [dict(data=8), dict(fsdp=8), dict(tensor=2), dict(data=2, fsdp=2, tensor=2)],
  ids=str,
)
def test_the_numbers_do_not_depend_on_the_mesh(mesh):
  state, metrics = one_step(**mesh)
  expected, expected_metrics = one_step()
  for name, value in expected_metrics.items():
    assert metrics[name] == pytest.approx(value, rel=1e-5), name
  assert_close(gradients(state), gradients(expected), 1e-5)
  assert_close(state.opt_state[1].nu, expected.opt_state[1].nu, 1e-5)


def test_accumulated_gradients_are_those_of_one_batch():
  state, metrics = one_step(data=2, fsdp=2, tensor=2, microbatches=4)
  expected, expected_metrics = one_step()
  for name, value in expected_metrics.items():
    assert metrics[name] == pytest.approx(value, rel=1e-5), name
  assert_close(gradients(state), gradients(expected), 1e-5)


def test_the_step_moves_by_the_rate_and_gives_its_buffers_back():
  mesh = sharding.make_mesh()
  before = fresh_state(mesh)
  after, _ = step_on(mesh)(before, batch_on(mesh), 0.0, 1.0)
  assert all(x.is_deleted() for x in jax.tree.leaves(before.params))  # donated
  jax.tree.map(np.testing.assert_array_equal, after.params, initial_params())
  assert after.step == 1

  once, _ = one_step()  # Adam's first step: every entry by the rate, but for decay and epsilon
  moved = once.params['blocks']['mlp_norm'] - initial_params()['blocks']['mlp_norm']
  np.testing.assert_allclose(np.abs(moved), 1e-3, rtol=1e-2)


def test_weights_of_zero_leave_decay_alone_and_decay_takes_matrices_alone():
  mesh = sharding.make_mesh()
  masked = batch_on(mesh, weights=np.zeros((B, T), np.float32))
  state, metrics = step_on(mesh)(fresh_state(mesh), masked, 0.5, 1.0)
  assert metrics['loss'] == metrics['grad_norm'] == 0

  def check(path, new, old):
    kept = 1 if path[-1].key.endswith('norm') else 1 - 0.5 * OPT.weight_decay
    np.testing.assert_allclose(new, kept * old, rtol=1e-6)

  jax.tree_util.tree_map_with_path(check, state.params, initial_params())


def direction_of(opt, params, grads):
  """(direction, state) of the optimiser's first step."""
  opt = train_step.optimizer(opt)
  return jax.jit(lambda p, g: opt.update(g, opt.init(p), p))(params, grads)


def test_biases_do_not_decay():
  params = {'blocks': {'bq': jnp.ones(3), 'wq': jnp.ones((3, 3))}}
  direction, _ = direction_of(OPT, params, jax.tree.map(jnp.zeros_like, params))
  assert (direction['blocks']['bq'] == 0).all()
  np.testing.assert_allclose(direction['blocks']['wq'], OPT.weight_decay, rtol=1e-6)


def test_the_global_norm_is_clipped_before_adam():
  params = {'blocks': {'wq': jnp.ones((2, 2)), 'wo': jnp.ones(1)}}
  grads = {'blocks': {'wq': jnp.full((2, 2), 2.0), 'wo': jnp.full(1, 3.0)}}  # norm 5
  for clip, scale in [(10.0, 1.0), (2.5, 0.5)]:
    _, state = direction_of(OPT._replace(clip_norm=clip), params, grads)
    for name, grad in grads['blocks'].items():
      np.testing.assert_allclose(state[1].mu['blocks'][name], (1 - B1) * scale * grad, rtol=1e-6)


def test_log_probs_are_of_the_distribution_at_the_temperature():
  data, params = batch(), initial_params()
  score = train_step.make_score(CFG, sharding.make_mesh())
  logits, _ = jax.jit(functools.partial(transformer.apply, CFG))(
    params, data['tokens'], data['positions'], data['segment_ids']
  )
  for temperature in (1.0, 0.6):
    logp, entropy = score(params, data, temperature)
    every = np.asarray(jax.nn.log_softmax(logits[:, :-1] / temperature))
    chosen = np.take_along_axis(every, data['tokens'][:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(logp[:, 1:], chosen, atol=1e-5)
    np.testing.assert_allclose(entropy[:, 1:], -(np.exp(every) * every).sum(-1), atol=1e-5)
    assert (logp[:, 0] == 0).all() and (entropy[:, 0] == 0).all()


def test_a_stage_restarts_with_a_fresh_optimiser_and_trains_on_any_mesh():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  layout = train_step.layout(CFG, OPT, mesh)
  params = jax.device_put(initial_params(), layout.params)
  state = train_step.make_restart(CFG, OPT, mesh)(params)
  state, _ = step_on(mesh)(state, batch_on(mesh), 1e-3, 1.0)
  expected, _ = one_step(data=2, fsdp=2, tensor=2)
  jax.tree.map(np.testing.assert_array_equal, state, expected)


def test_a_decay_branch_agrees_with_its_trunk_until_it_decays():
  rate = functools.partial(train_step.learning_rate, peak=3e-3, warmup=10)
  trunk = [rate(step, end=None, decay=20) for step in range(101)]
  branch = [rate(step, end=100, decay=20) for step in range(101)]
  np.testing.assert_allclose(trunk[:10], 3e-3 * np.arange(1, 11) / 10)
  assert trunk[10:] == [3e-3] * 91
  assert branch[:81] == trunk[:81]
  np.testing.assert_allclose(branch[80:], 3e-3 * np.arange(20, -1, -1) / 20, atol=1e-12)
  assert branch[100] == rate(120, end=100, decay=20) == 0
  assert rate(0, warmup=0, end=None, decay=0) == 3e-3
