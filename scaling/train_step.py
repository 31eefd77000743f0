"""The train step: one pure function of (state, batch, learning rate), for every loss.

Axes: B rows, T tokens, M microbatches, D model width, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, PartitionSpec

from scaling import sharding
from scaling.model import transformer
from scaling.model.transformer import Mechanics

# XLA's library of fused products, which samplers gain from, costs a train step 2 to 15 %.
CPU_OPTIONS = {'xla_cpu_experimental_ynn_fusion_type': ''}


class OptimizerConfig(NamedTuple):
  """AdamW (1711.05101) behind a clip of the global gradient norm; decay on matrices alone."""

  b1: float
  b2: float
  weight_decay: float
  clip_norm: float
  # Weight of (log Z)^2 of every counted token (2204.02311), beside any loss; a scalar has no Z.
  z_loss: float = 0.0


class TrainState(NamedTuple):
  """All that a step changes. `step` counts updates along the whole branch, not the stage."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState  # of what is trained: all parameters, or adapters (and a scalar head)


def optimizer(config: OptimizerConfig) -> optax.GradientTransformation:
  """The update direction, before the learning rate."""
  matrices = lambda params: jax.tree_util.tree_map_with_path(
    lambda path, _: not path[-1].key.endswith('norm') and path[-1].key not in ('bq', 'bk', 'bv'),
    params,
  )
  return optax.chain(
    optax.clip_by_global_norm(config.clip_norm),
    optax.scale_by_adam(config.b1, config.b2),
    optax.add_decayed_weights(config.weight_decay, matrices),
  )


def split(cfg: transformer.ModelConfig, params: dict) -> tuple[dict, dict]:
  """(trained, frozen): all and nothing, or, where the model has adapters, those and the rest.

  A scalar head is trained beside the adapters.
  """
  if not cfg.lora_rank:
    return params, {}
  blocks = params['blocks']
  adapters = {f'{name}_{half}' for name in transformer.adapted(cfg) for half in 'ab'}
  rest = {name: x for name, x in blocks.items() if name not in adapters}
  trained = {'blocks': {name: blocks[name] for name in sorted(adapters)}}
  if cfg.head == 'scalar':
    trained['head'] = params['head']
    params = {name: x for name, x in params.items() if name != 'head'}
  return trained, params | {'blocks': rest}


def join(trained: dict, frozen: dict) -> dict:
  """The parameters that `split` took apart."""
  blocks = trained['blocks'] | frozen.get('blocks', {})
  return trained | frozen | {'blocks': blocks}


def rate_multipliers(cfg: transformer.ModelConfig, trained: dict) -> dict:
  """What each parameter's learning rate is multiplied by: 1, or, under muP, mup_base / D for the
  matrices of the blocks whose rows grow with the width (2203.03466, table 8, Adam)."""

  def of(path, _):
    name = path[-1].key
    hidden = path[0].key == 'blocks' and name.startswith('w') and not name.endswith('_b')
    return cfg.mup_base / cfg.d_model if cfg.mup_base and hidden else 1.0

  return jax.tree_util.tree_map_with_path(of, trained)


def learning_rate(step: int, peak: float, warmup: int, end: int | None, decay: int) -> float:
  """Warm-up, stable, decay: linear up over `warmup` steps, flat, linear to 0 over the last `decay`.

  `end` is the step at which the rate reaches 0; None never decays (a trunk). A trunk and all of
  its decay branches agree on every step before end - decay.
  """
  rate = peak * min(1.0, (step + 1) / max(warmup, 1))
  return rate if end is None else rate * min(1.0, max(end - step, 0) / max(decay, 1))


@functools.lru_cache
def make_init(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> Callable:
  """A jitted `init(key) -> TrainState`, laid over the mesh."""

  def init(key):
    params = transformer.init(cfg, key)
    return TrainState(jnp.int32(0), params, optimizer(opt).init(split(cfg, params)[0]))

  abstract = jax.eval_shape(init, jax.random.key(0))
  return jax.jit(init, out_shardings=sharding.shardings(mesh, abstract))


def layout(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> TrainState:
  """The sharding of every array of a TrainState."""
  form = jax.eval_shape(make_init(cfg, opt, mesh), jax.random.key(0))
  return sharding.shardings(mesh, form)


@functools.lru_cache
def form(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> TrainState:
  """The shape, dtype and sharding of every array of a TrainState, as a restore wants them."""
  shapes = jax.eval_shape(make_init(cfg, opt, mesh), jax.random.key(0))
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    shapes,
    layout(cfg, opt, mesh),
  )


@functools.lru_cache
def make_restart(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> Callable:
  """A `restart(params, key) -> TrainState`, jitted: step 0 and a fresh optimiser: a stage begins.

  params are donated. Where the model has adapters and the parameters have none, fresh ones are
  drawn from the key. Where it has a scalar head and they are a language model's, the head is fresh
  and the unembedding is dropped.
  """

  def restart(params, key):
    if cfg.head == 'scalar' and 'head' not in params:
      params = params | {'head': jnp.zeros(cfg.d_model)}
    if cfg.lora_rank and 'wq_a' not in params['blocks']:
      params = join(split(cfg, transformer.init(cfg, key))[0], params)
    return TrainState(jnp.int32(0), params, optimizer(opt).init(split(cfg, params)[0]))

  start = jax.jit(restart, out_shardings=layout(cfg, opt, mesh), donate_argnums=0)
  kept = transformer.form(cfg).keys()
  return lambda params, key: start({name: params[name] for name in params if name in kept}, key)


class TokenStats(NamedTuple):
  """Of each token's own distribution, float32 [B, T], nats. Column t is about token t given those
  before it; column 0 has none before it and is 0."""

  logp: jax.Array  # log-probability of the token
  entropy: jax.Array
  log_z: jax.Array  # log of the softmax's denominator


class TokenValues(NamedTuple):
  """What a scalar head says, float32 [B, T]. Column t is of the sequence up to and including t."""

  value: jax.Array


def token_stats(
  cfg: transformer.ModelConfig,
  params: dict,
  batch: dict,
  temperature=1.0,
  how: Mechanics = Mechanics(),
  mesh: Mesh | None = None,
) -> TokenStats | TokenValues:
  """TokenStats of a batch, or the TokenValues of a model with a scalar head.

  Of packed rows: tokens, positions, segment_ids [B, T]. Of groups, G responses behind each of P
  prompts: prompts, prompt_segments [P, S] and tokens [P, G, R], padded behind; each prompt goes
  through the model once. There the result is [P G, R]: column t is about the response's token t,
  and its value is that of the state before the token.

  The logits are divided by `temperature` first, as the sampler does; values are not.
  With how.loss_chunk = c the logits of c columns are held at a time, here and in the backward pass,
  which computes them again. Columns t, t + T / c, … go together, so that each shard of a row that
  is split over the mesh has its part in every chunk.
  """
  grouped = 'prompts' in batch
  if grouped:
    x, target = _before_responses(cfg, params, batch, how, mesh)
  else:
    segments = batch.get('segment_ids')
    x, _ = transformer.hidden(
      cfg, params, batch['tokens'], batch['positions'], segments, how=how, mesh=mesh
    )
    target = jnp.roll(batch['tokens'], -1, axis=1)  # the last column is about nothing, and dropped
  if cfg.head == 'scalar':
    return TokenValues(transformer.values(cfg, params, x))
  matrix = transformer.unembedding(cfg, params, mesh)

  def stats(x, target):
    logits = sharding.constrain(mesh, transformer.logits(cfg, matrix, x), 'logits') / temperature
    log_z = jax.nn.logsumexp(logits, axis=-1)
    chosen = jnp.where(jnp.arange(logits.shape[-1]) == target[..., None], logits, 0).sum(-1)
    entropy = log_z - jnp.sum(jnp.exp(logits - log_z[..., None]) * logits, axis=-1)
    return TokenStats(chosen - log_z, entropy, log_z)

  B, T = target.shape
  c = how.loss_chunk
  if c == 0 or c >= T:
    found = stats(x, target)
  else:
    n = -(-T // c)
    spare = lambda y: jnp.pad(y, ((0, 0), (0, n * c - T)) + ((0, 0),) * (y.ndim - 2))
    cut = lambda y: jnp.moveaxis(spare(y).reshape(B, c, n, *y.shape[2:]), 2, 0)
    found = jax.lax.map(jax.checkpoint(lambda part: stats(*part)), (cut(x), cut(target)))
    found = jax.tree.map(lambda y: jnp.moveaxis(y, 0, 2).reshape(B, n * c)[:, :T], found)
  if grouped:
    return found
  return jax.tree.map(lambda y: jnp.pad(y[:, :-1], ((0, 0), (1, 0))), found)


def _before_responses(cfg, params, batch, how, mesh):
  """(the stream before each token of the responses [P G, R, D], those tokens [P G, R])."""
  prompts, real = batch['prompts'], batch['prompt_segments']
  (P, S), (_, G, R) = prompts.shape, batch['tokens'].shape
  rows = batch['tokens'].reshape(P * G, R)
  place = jnp.broadcast_to(jnp.arange(S), (P, S))
  x, prefix = transformer.hidden(cfg, params, prompts, place, real, how=how, mesh=mesh)
  lengths = real.sum(axis=1)
  last = jnp.take_along_axis(x, lengths[:, None, None] - 1, axis=1)
  place = jnp.repeat(lengths, G)[:, None] + jnp.arange(R)
  x, _ = transformer.hidden(cfg, params, rows, place, how=how, mesh=mesh, prefix=prefix)
  return jnp.concatenate([jnp.repeat(last, G, axis=0), x[:, :-1]], axis=1), rows


def _microbatches(batch: dict, count: int) -> dict:
  """Arrays [B, …] as [M, B / M, …]: every M-th row, so that each shard of rows has its part."""
  return jax.tree.map(lambda x: x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1), batch)


@functools.lru_cache
def make_train_step(
  cfg: transformer.ModelConfig,
  loss: Callable,
  options: tuple | None,
  opt: OptimizerConfig,
  mesh: Mesh,
  how: Mechanics = Mechanics(),
) -> Callable:
  """A jitted `step(state, batch, learning_rate, temperature) -> (state, metrics)`, state donated.

  batch: arrays [B, T]: tokens, positions, weights (summing to one over the batch), segment_ids
  (left out where each row is one sequence) and what the loss reads; or, of groups as `token_stats`
  has them, [P, S] and [P, G, R], of which the loss sees [P G, R]. With M microbatches the gradients
  of B / M rows (or P / M prompts) at a time are added up: the same sum. metrics, float32: loss
  (without the z-loss), grad_norm (before the clip), and the loss's own.
  """

  state_layout = layout(cfg, opt, mesh)
  grad_layout = split(cfg, state_layout.params)[0]
  apart = how.attention == 'plain' and sharding.splits_rows_alone(mesh, state_layout.params)

  def objective(trained, frozen, batch, temperature):
    params = join(trained, frozen)
    stats = token_stats(cfg, params, batch, temperature, how, None if apart else mesh)
    if 'prompts' in batch:
      batch = {k: x.reshape(-1, x.shape[-1]) for k, x in batch.items() if x.ndim == 3}
    per_token, watched = loss(stats, batch, options)
    total = lambda x: jnp.sum(batch['weights'] * x)
    value = total(per_token)
    watched = jax.lax.stop_gradient({'loss': value, **jax.tree.map(total, watched)})
    if opt.z_loss and cfg.head == 'tokens':
      value += opt.z_loss * total(stats.log_z**2)
    return value, watched

  def gradient(trained, frozen, batch, temperature):
    def of(part):
      grads, watched = jax.grad(objective, has_aux=True)(trained, frozen, part, temperature)
      return grads if apart else jax.lax.with_sharding_constraint(grads, grad_layout), watched

    if how.microbatches == 1:
      return of(batch)
    if 'positions' in batch:  # here, as XLA on CPUs would do it in the loop for each layer and head
      batch = batch | {'positions': transformer.turn(cfg, batch['positions'])}
    parts = _microbatches(batch, how.microbatches)
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), jax.eval_shape(of, batch))
    accumulate = lambda total, part: (jax.tree.map(jnp.add, total, of(part)), None)
    return jax.lax.scan(accumulate, zeros, parts)[0]

  if apart:  # each device adds up its own microbatches; they are added up over devices once
    whole = PartitionSpec()
    own = gradient
    gradient = jax.shard_map(
      lambda *args: jax.lax.psum(own(*args), sharding.ROWS),
      mesh=mesh,
      in_specs=(whole, whole, sharding.BATCH, whole),
      out_specs=whole,
      check_vma=False,  # JAX would add up over devices in every microbatch
    )

  def step(state, batch, rate, temperature):
    trained, frozen = split(cfg, state.params)
    grads, watched = gradient(trained, frozen, batch, temperature)
    direction, opt_state = optimizer(opt).update(grads, state.opt_state, trained)
    moved = jax.tree.map(
      lambda p, d, multiplier: p - rate * multiplier * d,
      trained,
      direction,
      rate_multipliers(cfg, trained),
    )
    metrics = watched | {'grad_norm': optax.tree.norm(grads)}
    return TrainState(state.step + 1, join(moved, frozen), opt_state), metrics

  none = sharding.replicated(mesh)
  return jax.jit(
    step,
    in_shardings=(state_layout, sharding.batch(mesh), none, none),
    out_shardings=(state_layout, none),
    donate_argnums=0,
    compiler_options=CPU_OPTIONS if mesh.devices.flat[0].platform == 'cpu' else None,
  )


@functools.lru_cache
def make_score(cfg: transformer.ModelConfig, mesh: Mesh, how: Mechanics = Mechanics()) -> Callable:
  """A jitted `score(params, batch, temperature) -> [B, T]`, or [P, G, R] of groups: no gradient.

  Log-probabilities; of a model with a scalar head, values. With M microbatches B / M rows (P / M
  prompts) at a time.
  """

  def score(params, batch, temperature):
    def of(part):
      found = token_stats(cfg, params, part, temperature, how, mesh)[0]
      return found.reshape(part['tokens'].shape)

    if how.microbatches == 1:
      return of(batch)
    found = jax.lax.map(of, _microbatches(batch, how.microbatches))
    return found.swapaxes(0, 1).reshape(batch['tokens'].shape)

  rows = sharding.batch(mesh)
  return jax.jit(
    score,
    in_shardings=(sharding.shardings(mesh, transformer.form(cfg)), rows, sharding.replicated(mesh)),
    out_shardings=rows,
  )
