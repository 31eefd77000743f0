"""The sample step: prefill each prompt once, share its cache among its samples, decode in blocks.

A block is P prompts x n samples at one compiled shape; a bank is drawn in such blocks
(`stages/sample.py`), so what a sample says does not depend on how many are asked for.

The key of a sample is fold_in of (stage seed, update, prompt's hash, sample index), and of nothing
else; the noise of its t-th token is Gumbel noise under fold_in(key, t). Hence a pool of 64 begins
with the pool of 8, and a prompt met again at a later update gets fresh noise.

Axes: P prompts, n samples of each, B = P x n rows, T response tokens, V vocabulary.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from scaling import sharding
from scaling.model import transformer


class SampleShape(NamedTuple):
  """One compiled shape of the sampler."""

  prompts: int  # prompts in a block
  samples: int  # samples of each prompt in a block
  prompt_tokens: int  # a prompt's tokens, padded on the right
  response_tokens: int  # the most tokens a response may have, its stop token counted


class Samples(NamedTuple):
  """What was drawn: the stop token is part of the response, padding (0) follows it."""

  tokens: jax.Array  # int32 [P, n, T]
  logprobs: jax.Array  # float32 [P, n, T]: the policy's own, at temperature 1
  sampler_logprobs: jax.Array  # float32 [P, n, T]: of the distribution drawn from
  lengths: jax.Array  # int32 [P, n]
  stopped: jax.Array  # bool [P, n]: False where the response was cut at T tokens


class SampleState(NamedTuple):
  """The state of a block between two tokens."""

  cache: transformer.Cache
  logits: jax.Array  # [B, V] of the next token
  tokens: jax.Array  # [B, T]
  logprobs: jax.Array  # [B, T]
  sampler_logprobs: jax.Array  # [B, T]
  positions: jax.Array  # [B] of the next token
  lengths: jax.Array  # [B] tokens drawn by the row
  stopped: jax.Array  # [B]
  t: jax.Array  # [] steps of decoding so far


def sample_keys(seed: jax.Array, update: jax.Array, prompt_hash: jax.Array, index: jax.Array):
  """A key for each (prompt, sample): typed keys [P, n].

  seed: a typed key; update: int32 []; prompt_hash: uint32 [P, 2]; index: int32 [n].
  """
  stream = jax.random.fold_in(seed, update)

  def one(hash_2, i):
    key = jax.random.fold_in(jax.random.fold_in(stream, hash_2[0]), hash_2[1])
    return jax.random.fold_in(key, i)

  return jax.vmap(lambda h: jax.vmap(lambda i: one(h, i))(index))(prompt_hash)


def prefill(
  cfg,
  params,
  prompts,
  lengths,
  samples: int,
  response_tokens: int,
  how: transformer.Mechanics = transformer.Mechanics(),
  mesh: Mesh | None = None,
) -> SampleState:
  """Runs each prompt [P, S] once; its n = `samples` rows look back on one copy of its cache."""
  P, S = prompts.shape
  steps = jnp.broadcast_to(jnp.arange(S), (P, S))
  real = (steps < lengths[:, None]).astype(jnp.int32)
  x, prefix = transformer.hidden(cfg, params, prompts, steps, real, how=how, mesh=mesh)
  last = jnp.take_along_axis(x, lengths[:, None, None] - 1, axis=1)[:, 0]
  B = P * samples
  zeros = jnp.zeros((B, response_tokens), jnp.float32)
  return SampleState(
    cache=transformer.empty_cache(cfg, B, response_tokens, prefix),
    logits=jnp.repeat(
      transformer.logits(cfg, transformer.unembedding(cfg, params), last), samples, axis=0
    ),
    tokens=jnp.zeros((B, response_tokens), jnp.int32),
    logprobs=zeros,
    sampler_logprobs=zeros,
    positions=jnp.repeat(lengths, samples),
    lengths=jnp.zeros(B, jnp.int32),
    stopped=jnp.zeros(B, bool),
    t=jnp.int32(0),
  )


def draw(state: SampleState, keys_B, temperature, stop_token: int) -> SampleState:
  """Draws the next token of each row that has not stopped: argmax(logits / temperature + Gumbel).

  A stopped row gets padding, with log-probability 0.
  """
  scaled = state.logits / temperature
  keys = jax.vmap(jax.random.fold_in, (0, None))(keys_B, state.t)
  noise = jax.vmap(lambda key: jax.random.gumbel(key, scaled.shape[1:]))(keys)
  token = jnp.argmax(scaled + noise, axis=-1)
  of_token = lambda x: jnp.take_along_axis(jax.nn.log_softmax(x), token[:, None], axis=-1)[:, 0]
  live = ~state.stopped
  put = lambda old, new: jax.lax.dynamic_update_slice_in_dim(
    old, jnp.where(live, new, 0).astype(old.dtype)[:, None], state.t, axis=1
  )
  return state._replace(
    tokens=put(state.tokens, token),
    logprobs=put(state.logprobs, of_token(state.logits)),
    sampler_logprobs=put(state.sampler_logprobs, of_token(scaled)),
    lengths=state.lengths + live,
    stopped=state.stopped | (token == stop_token),
    t=state.t + 1,
  )


def decode(
  cfg,
  params,
  state: SampleState,
  how: transformer.Mechanics = transformer.Mechanics(),
  mesh: Mesh | None = None,
) -> SampleState:
  """Feeds the last token drawn; the state then holds the logits of the next."""
  token = jax.lax.dynamic_slice_in_dim(state.tokens, state.t - 1, 1, axis=1)
  logits, cache = transformer.apply(
    cfg, params, token, state.positions[:, None], cache=state.cache, how=how, mesh=mesh
  )
  return state._replace(cache=cache, logits=logits[:, 0], positions=state.positions + 1)


@functools.lru_cache
def make_sampler(
  cfg: transformer.ModelConfig,
  shape: SampleShape,
  stop_token: int,
  mesh: Mesh,
  how: transformer.Mechanics = transformer.Mechanics(),
) -> Callable:
  """A jitted `sample(params, prompts, lengths, hashes, seed, update, first, temperature)`.

  prompts: int32 [P, prompt_tokens], padded on the right; lengths: int32 [P]; hashes: uint32 [P, 2];
  seed: a typed key; update, first: int32 [], the block's first sample index; temperature > 0.
  Returns Samples. Every prompt is prefilled once; decoding goes on until every row has stopped.
  The parameters are gathered along the mesh's fsdp axis once, and not for every token.
  """

  def sample(params, prompts, lengths, hashes, seed, update, first, temperature):
    index = first + jnp.arange(shape.samples)
    keys = sample_keys(seed, update, hashes, index).reshape(-1)
    params = sharding.gather(mesh, transformer.cast(cfg, params))
    state = prefill(cfg, params, prompts, lengths, shape.samples, shape.response_tokens, how, mesh)
    state = draw(state, keys, temperature, stop_token)
    state = jax.lax.while_loop(
      lambda s: (s.t < shape.response_tokens) & ~jnp.all(s.stopped),
      lambda s: draw(decode(cfg, params, s, how, mesh), keys, temperature, stop_token),
      state,
    )
    by_prompt = lambda x: x.reshape(shape.prompts, shape.samples, *x.shape[1:])
    return Samples(*(by_prompt(getattr(state, field)) for field in Samples._fields))

  sharding.check_rows(mesh, shape.prompts, 'prompts of a sampling block')
  rows, none = sharding.rows(mesh), sharding.replicated(mesh)
  return jax.jit(
    sample,
    in_shardings=(sharding.shardings(mesh, transformer.form(cfg)), *[rows] * 3, *[none] * 4),
    out_shardings=rows,
  )
