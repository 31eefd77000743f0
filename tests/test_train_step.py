"""The train step: its numbers on any mesh, its parts one by one, and its schedule."""

import dataclasses
import functools
import itertools
import math
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import losses, sharding, train_step
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics

CFG = transformer.ModelConfig(
  vocab_size=13, d_model=16, n_layers=2, n_heads=8, n_kv_heads=8, head_dim=4, d_ff=32, qk_norm=True,
  vocab_multiple=8,
)  # fmt: skip
B, T = 16, 16
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
  segment_ids = np.tile(np.repeat([1, 2, 0], [7, 6, 3]), (B, 1)).astype(np.int32)
  positions = np.tile(np.r_[:7, :6, :3], (B, 1)).astype(np.int32)
  mask = (segment_ids > 0) & (positions > 0) & (rng.random((B, T)) < 0.7)
  return {
    'tokens': rng.integers(0, CFG.vocab_size, (B, T), dtype=np.int32),
    'positions': positions,
    'segment_ids': segment_ids,
    'weights': np.asarray(losses.mean_over_tokens(mask), np.float32),
  }


def batch_on(mesh, **changed):
  return jax.device_put(batch() | changed, sharding.batch(mesh))


@functools.lru_cache
def empty_state(mesh):
  """NumPy zeros in the form of a state, and where they go."""
  form = jax.eval_shape(train_step.make_init(CFG, OPT, mesh), jax.random.key(0))
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), form), train_step.layout(CFG, OPT, mesh)


def fresh_state(mesh, params=None):
  empty, layout = empty_state(mesh)
  return jax.device_put(empty._replace(params=params or initial_params()), layout)


def step_on(mesh, how=Mechanics(), opt=OPT):
  return train_step.make_train_step(CFG, losses.cross_entropy, None, opt, mesh, how)


@functools.lru_cache
def stepped(how=Mechanics(), opt=OPT, **axes):
  """Function: NumPy parameters -> NumPy (state, metrics) after one step from a fresh state."""
  mesh = sharding.make_mesh(**axes)
  step = step_on(mesh, how, opt)
  return lambda params: jax.tree.map(
    np.asarray, step(fresh_state(mesh, params), batch_on(mesh), 1e-3, 1.0)
  )


@functools.lru_cache
def one_step(how=Mechanics(), opt=OPT, **axes):
  """(state, metrics) after one step from the same parameters on the same batch, as NumPy."""
  return stepped(how, opt, **axes)(initial_params())


@functools.lru_cache
def descended(**axes):
  """Parameters after ten steps by the gradients themselves: Adam's first makes steps of noise."""
  params = initial_params()
  for _ in range(10):
    state, _ = stepped(**axes)(params)
    params = jax.tree.map(lambda p, g: p - np.float32(0.3) * g, params, gradients(state))
  return params


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
    return -jnp.sum(data['weights'][:, 1:] * chosen)

  loss, grads = jax.tree.map(np.asarray, jax.jit(jax.value_and_grad(objective))(initial_params()))
  state, metrics = one_step()
  assert metrics['loss'] == pytest.approx(loss, rel=1e-6)
  assert_close(gradients(state), grads, 1e-5)
  norm = np.sqrt(sum(np.sum(np.square(g)) for g in jax.tree.leaves(grads)))
  assert metrics['grad_norm'] == pytest.approx(norm, rel=1e-5)


MESHES = [  # every way to split 8 devices over the four axes
  dict(data=d, fsdp=f, tensor=t, sequence=s)
  for d, f, t, s in itertools.product((1, 2, 4, 8), repeat=4)
  if d * f * t * s == 8
]


def assert_same_step(got, expected):
  (state, metrics), (want, want_metrics) = got, expected
  for name, value in want_metrics.items():
    assert metrics[name] == pytest.approx(value, rel=1e-5), name
  assert_close(gradients(state), gradients(want), 1e-5)
  assert_close(state.opt_state[1].nu, want.opt_state[1].nu, 1e-5)


@pytest.mark.parametrize('mesh', MESHES, ids=lambda mesh: '-'.join(map(str, mesh.values())))
def test_the_numbers_do_not_depend_on_the_mesh(mesh):
  assert_same_step(one_step(**mesh), one_step())
  assert_close(descended(**mesh), descended(), 1e-5)


def test_ten_steps_go_somewhere():
  moved = jax.tree.map(lambda x, y: np.abs(x - y).max(), descended(), initial_params())
  assert min(jax.tree.leaves(moved)) > 1e-3


MECHANICS = [
  Mechanics(microbatches=4),
  Mechanics(remat='dots'),
  Mechanics(remat='block'),
  Mechanics(loss_chunk=8),
  Mechanics(loss_chunk=6),  # does not divide the row: the last chunk is padded
  Mechanics(unroll=2),
]
ON_EIGHT = Mechanics(microbatches=2, remat='block', loss_chunk=8), dict(data=2, fsdp=2, tensor=2)
BY_ROWS = Mechanics(microbatches=2, loss_chunk=8), dict(data=4)


@pytest.mark.parametrize(
  'how, mesh', [*((how, {}) for how in MECHANICS), ON_EIGHT, BY_ROWS], ids=str
)
def test_the_numbers_do_not_depend_on_the_mechanics(how, mesh):
  assert_same_step(one_step(how, **mesh), one_step())


def test_where_rows_alone_are_split_gradients_are_added_up_over_devices_once_a_step():
  """Not in the loop over microbatches: the program's entry has all of its reductions."""
  mesh = sharding.make_mesh(data=2)
  step = step_on(mesh, Mechanics(microbatches=2))
  text = step.lower(fresh_state(mesh), batch_on(mesh), 1e-3, 1.0).compile().as_text()
  loops, entry = text.split('\nENTRY ')
  assert 'all-reduce(' in entry and 'all-reduce(' not in loops


def test_a_chunked_loss_never_holds_all_logits():
  """The largest array of the program, beside the parameters, shrinks with the chunk."""
  mesh = sharding.make_mesh()
  wide = dataclasses.replace(CFG, vocab_size=4096)
  state = jax.eval_shape(train_step.make_init(wide, OPT, mesh), jax.random.key(0))
  sizes = {}
  for chunk in (0, 2):
    step = train_step.make_train_step(
      wide, losses.cross_entropy, None, OPT, mesh, Mechanics(loss_chunk=chunk)
    )
    text = step.lower(state, batch(), 1e-3, 1.0).as_text()
    shapes = re.findall(r'tensor<((?:\d+x)*4096(?:x\d+)*)xf32>', text)
    sizes[chunk] = max(math.prod(map(int, shape.split('x'))) for shape in shapes)
  assert sizes == {0: B * T * 4096, 2: B * 2 * 4096}


def test_z_loss_adds_the_gradient_of_the_squared_log_partition():
  data, weight = batch(), 0.01

  def penalty(params):
    logits, _ = transformer.apply(
      CFG, params, data['tokens'], data['positions'], data['segment_ids']
    )
    log_z = jnp.log(jnp.sum(jnp.exp(logits[..., : CFG.vocab_size]), -1))[:, :-1]
    return weight * jnp.sum(data['weights'][:, 1:] * log_z**2)

  extra = jax.jit(jax.grad(penalty))(initial_params())
  plain, metrics = one_step()
  state, with_z = one_step(opt=OPT._replace(z_loss=weight))
  expected = jax.tree.map(jnp.add, gradients(plain), extra)
  assert_close(gradients(state), jax.tree.map(np.asarray, expected), 1e-5)
  assert with_z['loss'] == pytest.approx(metrics['loss'], rel=1e-6)  # reported without it


def test_adapters_are_trained_and_the_base_is_frozen():
  cfg = dataclasses.replace(CFG, lora_rank=2)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  base = jax.device_put(initial_params(), train_step.layout(CFG, OPT, mesh).params)
  state = train_step.make_restart(cfg, OPT, mesh)(base, jax.random.key(3))
  begun = jax.tree.map(np.asarray, state.params)
  adapters = set(begun['blocks']) - set(initial_params()['blocks'])
  assert (
    set(state.opt_state[1].mu['blocks'])
    == adapters
    == set(train_step.split(cfg, begun)[0]['blocks'])
  )
  step = train_step.make_train_step(cfg, losses.cross_entropy, None, OPT, mesh)
  state, metrics = step(state, batch_on(mesh), 1e-2, 1.0)

  def loss(trained):
    params = train_step.join(trained, train_step.split(cfg, begun)[1])
    stats = train_step.token_stats(cfg, params, batch())
    return -jnp.sum(batch()['weights'] * stats.logp)

  value, grads = jax.jit(jax.value_and_grad(loss))(train_step.split(cfg, begun)[0])
  assert metrics['loss'] == pytest.approx(float(value), rel=1e-5)
  assert metrics['loss'] == pytest.approx(
    float(one_step()[1]['loss']), rel=1e-5
  )  # a fresh one adds 0
  assert_close(gradients(state), jax.tree.map(np.asarray, grads), 1e-4)
  after = jax.tree.map(np.asarray, step(state, batch_on(mesh), 1e-2, 1.0)[0].params)
  for name, x in initial_params().items():
    if name != 'blocks':
      np.testing.assert_array_equal(after[name], x)
  for name, x in initial_params()['blocks'].items():
    np.testing.assert_array_equal(after['blocks'][name], x)
  for name in adapters:
    assert np.abs(after['blocks'][name] - begun['blocks'][name]).max() > 0, name


SCALAR = dataclasses.replace(CFG, head='scalar', tied_embeddings=False)


def scalar_batch():
  """Labels everywhere; as many weights as tokens."""
  data = batch()
  labels = np.random.default_rng(5).uniform(size=data['tokens'].shape)
  return data | {'labels': labels.astype(np.float32)}


def scalar_state(cfg=SCALAR, mesh=None, head=True):
  """A scalar-head state from a language model's parameters, its head drawn so that it says much."""
  mesh = mesh or sharding.make_mesh()
  base = jax.tree.map(jnp.array, initial_params())
  base['unembed'] = jnp.ones((CFG.d_model, CFG.padded_vocab))  # dropped
  untied = dataclasses.replace(CFG, tied_embeddings=False)
  base = jax.device_put(base, train_step.layout(untied, OPT, mesh).params)
  state = train_step.make_restart(cfg, OPT, mesh)(base, jax.random.key(3))
  if head:
    drawn = np.random.default_rng(6).normal(size=CFG.d_model).astype(np.float32)
    drawn = jax.device_put(drawn, state.params['head'].sharding)
    state = state._replace(params=state.params | {'head': drawn})
  return state


def test_a_reward_model_begins_as_its_language_model_with_a_fresh_head():
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    state = scalar_state(head=False)
  assert 'unembed' not in state.params and int(state.step) == 0
  np.testing.assert_array_equal(state.params['head'], np.zeros(CFG.d_model))
  np.testing.assert_array_equal(state.params['embed'], initial_params()['embed'])
  step = train_step.make_train_step(SCALAR, losses.pointwise, None, OPT, sharding.make_mesh())
  state, metrics = step(state, scalar_batch(), 1e-2, 1.0)
  assert metrics['loss'] == pytest.approx(float(np.log(2)), rel=1e-5)  # it says nothing yet
  assert np.abs(state.params['head']).min() > 0


def test_a_value_is_of_the_sequence_up_to_and_including_its_token():
  params, data = scalar_state().params, batch()
  stats = jax.jit(functools.partial(train_step.token_stats, SCALAR))
  found = stats(params, data)
  given = data['tokens'], data['positions'], data['segment_ids']
  x, _ = jax.jit(functools.partial(transformer.hidden, SCALAR))(params, *given)
  np.testing.assert_allclose(found.value, x @ params['head'], rtol=1e-4, atol=1e-5)
  t = T // 2
  later = data['tokens'].copy()
  later[:, t + 1 :] = 1
  other = stats(params, data | {'tokens': later})
  np.testing.assert_allclose(other.value[:, : t + 1], found.value[:, : t + 1], atol=1e-5)
  later[:, t] = 1
  other = stats(params, data | {'tokens': later})
  assert np.abs(other.value[:, t] - found.value[:, t]).min() > 1e-4
  scored = train_step.make_score(SCALAR, sharding.make_mesh(), Mechanics(microbatches=2))
  np.testing.assert_allclose(scored(params, data, 0.5), found.value, rtol=1e-4, atol=1e-5)
  with pytest.raises(BadInput, match='no logits to draw from'):
    transformer.apply(SCALAR, params, data['tokens'], data['positions'])


@pytest.mark.parametrize('loss', [losses.pairs, losses.pointwise])
def test_a_reward_models_step_is_the_same_on_any_mesh_and_in_microbatches(loss):
  """Also chunked, recomputed, and with a z-loss, which are of logits and change nothing."""
  data = scalar_batch()
  marks = np.zeros(data['tokens'].shape, np.float32)
  marks[:, 2], marks[:, 10] = 1, -1
  data['marks'] = marks
  if loss is losses.pairs:
    data['weights'] = (marks > 0) / np.float32(B)

  def one(mesh, how, opt=OPT):
    state = scalar_state(mesh=mesh)
    step = train_step.make_train_step(SCALAR, loss, None, opt, mesh, how)
    placed = sharding.spread(sharding.batch(mesh), data)
    state, metrics = step(state, placed, 1e-2, 1.0)
    return gradients(state), metrics

  grads, metrics = one(sharding.make_mesh(), Mechanics())
  how = Mechanics(microbatches=2, remat='block', loss_chunk=4)
  other, same = one(sharding.make_mesh(data=2, fsdp=2, tensor=2), how, OPT._replace(z_loss=1.0))
  assert metrics['loss'] == pytest.approx(float(same['loss']), rel=1e-5)
  assert_close(other, grads, 1e-4)


def test_a_scalar_head_is_trained_beside_the_adapters():
  cfg = dataclasses.replace(SCALAR, lora_rank=2)
  state = scalar_state(cfg)
  begun = jax.tree.map(np.asarray, state.params)
  assert set(state.opt_state[1].mu) == {'blocks', 'head'}
  step = train_step.make_train_step(cfg, losses.pointwise, None, OPT, sharding.make_mesh())
  state, _ = step(state, scalar_batch(), 1e-2, 1.0)
  assert np.abs(state.params['head'] - begun['head']).min() > 0
  for name in ('embed', 'final_norm'):
    np.testing.assert_array_equal(state.params[name], begun[name])
  np.testing.assert_array_equal(state.params['blocks']['wq'], begun['blocks']['wq'])


def coordinates(width, mup):
  """How far a few steps move the logits and the stream, root mean square, at a width."""
  cfg = transformer.ModelConfig(
    vocab_size=32, d_model=width, n_layers=2, n_heads=width // 16, n_kv_heads=width // 16,
    head_dim=16, d_ff=2 * width, tied_embeddings=False, mup_base=32 if mup else 0,
  )  # fmt: skip
  mesh, opt = sharding.make_mesh(), OPT._replace(weight_decay=0.0)
  rng = np.random.default_rng(0)
  data = batch() | {'tokens': rng.integers(0, 32, (B, T), dtype=np.int32)}
  view = jax.jit(
    lambda params: transformer.hidden(cfg, params, *(data[k] for k in ('tokens', 'positions')))[0]
  )
  state = train_step.make_init(cfg, opt, mesh)(jax.random.key(0))
  step = train_step.make_train_step(cfg, losses.cross_entropy, None, opt, mesh)
  rms = lambda x: float(np.sqrt(np.mean(np.square(x))))
  readout = lambda params: transformer.unembedding(cfg, params)
  logits = jax.jit(lambda params: transformer.logits(cfg, readout(params), view(params)))
  before = jax.tree.map(jnp.copy, state.params)
  for _ in range(4):
    state, _ = step(state, data, 0.003, 1.0)
  return rms(logits(state.params) - logits(before)), rms(view(state.params) - view(before))


def test_mup_keeps_the_size_of_changes_whatever_the_width():
  """The coordinate check (2203.03466, appendix D), as slopes of log change by log width.

  Under muP the stream's change is level and the logits' does not grow; at small widths it shrinks,
  by what the readout's initial noise adds to it, as width^-1/2. Without muP both grow.
  """
  widths = (32, 128)
  slopes = lambda mup: np.polyfit(
    np.log(widths), np.log([coordinates(width, mup) for width in widths]), 1
  )[0]
  logits, stream = slopes(True)
  assert -0.45 < logits < 0.05 and abs(stream) < 0.1
  assert min(slopes(False)) > 0.2


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
  jitted_stats = jax.jit(functools.partial(train_step.token_stats, CFG))
  logits, _ = jax.jit(functools.partial(transformer.apply, CFG))(
    params, data['tokens'], data['positions'], data['segment_ids']
  )
  in_parts = train_step.make_score(
    CFG, sharding.make_mesh(data=2, fsdp=2, tensor=2), Mechanics(microbatches=2, loss_chunk=8)
  )
  for temperature in (1.0, 0.6):
    logp = score(params, data, temperature)
    np.testing.assert_allclose(in_parts(params, data, temperature), logp, atol=1e-5)
    stats = jitted_stats(params, data, temperature)
    every = np.asarray(jax.nn.log_softmax(logits[:, :-1] / temperature))
    chosen = np.take_along_axis(every, data['tokens'][:, 1:, None], -1)[..., 0]
    np.testing.assert_allclose(logp[:, 1:], chosen, atol=1e-5)
    np.testing.assert_allclose(stats.logp, logp, atol=1e-6)
    every = every[..., : CFG.vocab_size]
    np.testing.assert_allclose(stats.entropy[:, 1:], -(np.exp(every) * every).sum(-1), atol=1e-5)
    scaled = np.asarray(logits[:, :-1] / temperature, np.float64)[..., : CFG.vocab_size]
    np.testing.assert_allclose(stats.log_z[:, 1:], np.log(np.exp(scaled).sum(-1)), atol=1e-5)
    for x in stats:
      assert (x[:, 0] == 0).all()


def test_a_stage_restarts_with_a_fresh_optimiser_and_trains_on_any_mesh():
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  layout = train_step.layout(CFG, OPT, mesh)
  params = jax.device_put(initial_params(), layout.params)
  state = train_step.make_restart(CFG, OPT, mesh)(params, jax.random.key(0))
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
