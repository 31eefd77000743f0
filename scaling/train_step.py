"""The train step: one pure function of (state, batch, learning rate), for every loss.

Axes: B rows, T tokens, M microbatches.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from scaling import sharding
from scaling.model import transformer


class OptimizerConfig(NamedTuple):
  """AdamW (1711.05101) behind a clip of the global gradient norm; decay on matrices alone."""

  b1: float
  b2: float
  weight_decay: float
  clip_norm: float


class TrainState(NamedTuple):
  """All that a step changes. `step` counts updates along the whole branch, not the stage."""

  step: jax.Array
  params: dict
  opt_state: optax.OptState


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
    return TrainState(jnp.int32(0), params, optimizer(opt).init(params))

  abstract = jax.eval_shape(init, jax.random.key(0))
  return jax.jit(init, out_shardings=sharding.shardings(mesh, abstract))


def layout(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> TrainState:
  """The sharding of every array of a TrainState."""
  form = jax.eval_shape(make_init(cfg, opt, mesh), jax.random.key(0))
  return sharding.shardings(mesh, form)


@functools.lru_cache
def make_restart(cfg: transformer.ModelConfig, opt: OptimizerConfig, mesh: Mesh) -> Callable:
  """A jitted `restart(params) -> TrainState`: a fresh optimiser and step 0; how a stage begins."""
  return jax.jit(
    lambda params: TrainState(jnp.int32(0), params, optimizer(opt).init(params)),
    out_shardings=layout(cfg, opt, mesh),
    donate_argnums=0,
  )


def token_logprobs(cfg, params, batch, temperature=1.0):
  """Log-probability and entropy of each token's own distribution, float32 [B, T], nats.

  Column t is about token t given those before it; column 0 has none before it and is 0.
  The logits are divided by `temperature` first, as the sampler does.
  """
  logits, _ = transformer.apply(
    cfg, params, batch['tokens'], batch['positions'], batch['segment_ids']
  )
  scaled = logits[:, :-1] / temperature
  log_z = jax.nn.logsumexp(scaled, axis=-1)
  chosen = jnp.take_along_axis(scaled, batch['tokens'][:, 1:, None], axis=-1)[..., 0]
  entropy = log_z - jnp.sum(jax.nn.softmax(scaled) * scaled, axis=-1)
  after = lambda x: jnp.pad(x, ((0, 0), (1, 0)))
  return after(chosen - log_z), after(entropy)


@functools.lru_cache
def make_train_step(
  cfg: transformer.ModelConfig,
  loss: Callable,
  options: tuple | None,
  opt: OptimizerConfig,
  mesh: Mesh,
  microbatches: int = 1,
) -> Callable:
  """A jitted `step(state, batch, learning_rate, temperature) -> (state, metrics)`, state donated.

  batch: arrays [B, T]: tokens, positions, segment_ids, weights (summing to one over the batch) and
  what the loss reads. With M microbatches the gradients of B / M rows at a time are added up: the
  same sum. metrics, float32: loss, entropy, grad_norm (before the clip), and the loss's own.
  """

  def objective(params, batch, temperature):
    logp, entropy = token_logprobs(cfg, params, batch, temperature)
    per_token, watched = loss(logp, batch, options)
    total = lambda x: jnp.sum(batch['weights'] * x)
    watched = jax.tree.map(total, {'entropy': entropy, **watched})
    return total(per_token), jax.lax.stop_gradient(watched)

  def step(state, batch, rate, temperature):
    gradient = jax.value_and_grad(objective, has_aux=True)
    if microbatches == 1:
      (value, watched), grads = gradient(state.params, batch, temperature)
    else:
      split = lambda x: x.reshape(-1, microbatches, *x.shape[1:]).swapaxes(0, 1)

      def accumulate(total, part):
        return jax.tree.map(jnp.add, total, gradient(state.params, part, temperature)), None

      shapes = jax.eval_shape(gradient, state.params, batch, temperature)
      zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
      ((value, watched), grads), _ = jax.lax.scan(accumulate, zeros, jax.tree.map(split, batch))
    direction, opt_state = optimizer(opt).update(grads, state.opt_state, state.params)
    params = jax.tree.map(lambda p, d: p - rate * d, state.params, direction)
    metrics = {'loss': value, 'grad_norm': optax.tree.norm(grads), **watched}
    return TrainState(state.step + 1, params, opt_state), metrics

  none = sharding.replicated(mesh)
  state_layout = layout(cfg, opt, mesh)
  return jax.jit(
    step,
    in_shardings=(state_layout, sharding.rows(mesh), none, none),
    out_shardings=(state_layout, none),
    donate_argnums=0,
  )


@functools.lru_cache
def make_score(cfg: transformer.ModelConfig, mesh: Mesh) -> Callable:
  """A jitted `score(params, batch, temperature) -> (logp, entropy)` [B, T]: no gradient."""
  params = jax.eval_shape(lambda: transformer.init(cfg, jax.random.key(0)))
  rows = sharding.rows(mesh)
  return jax.jit(
    functools.partial(token_logprobs, cfg),
    in_shardings=(sharding.shardings(mesh, params), rows, sharding.replicated(mesh)),
    out_shardings=rows,
  )
