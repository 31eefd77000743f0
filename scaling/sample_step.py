"""The sample step: prefill each prompt once, share its cache among its samples, decode in blocks.

A block is P prompts x n samples at one compiled shape, of which m rows of each prompt decode at a
time: a row that stops takes the next sample of its prompt. A bank is drawn in such blocks
(`stages/sample.py`), so what a sample says does not depend on how many are asked for.

The key of a sample is fold_in of (stage seed, update, prompt's hash, sample index), and of nothing
else; the noise of its t-th token is Gumbel noise under fold_in(key, t). Hence a pool of 64 begins
with the pool of 8, and a prompt met again at a later update gets fresh noise.

Axes: P prompts, n samples of each, m rows of each, B = P x m rows, T response tokens, V vocabulary
(padded), C passes of the decode loop at most.
"""

import functools
import heapq
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from scaling import sharding
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.truncation import WHOLE, Truncation, check_truncation, truncate


class SampleShape(NamedTuple):
  """One compiled shape of the sampler."""

  prompts: int  # prompts in a block
  samples: int  # samples of each prompt in a block
  rows: int  # of each prompt that decode at a time, at most `samples`
  prompt_tokens: int  # a prompt's tokens, padded on the right
  response_tokens: int  # the most tokens a response may have, its stop token counted
  prompt_chunk: int = 0  # prompt tokens that are prefilled at a time; 0: all, else it divides them


class Limits(NamedTuple):
  """What bounds the responses to each prompt. All but `response` are used where a sampler forces.

  A response that has not thought for `least` tokens cannot say the mark, nor stop; one that has
  not said the mark after `most` says it then.
  """

  response: np.ndarray  # int32 [P], or [P, n]: tokens that a response may have, in 1 ... T
  least: np.ndarray  # int32 [P]
  most: np.ndarray  # int32 [P]
  mark: np.ndarray  # int32 []: the end-of-thinking token


class Samples(NamedTuple):
  """What was drawn: the stop token is part of the response, padding (0) follows it."""

  tokens: jax.Array  # int32 [P, n, T]
  logprobs: jax.Array  # float32 [P, n, T]: the policy's own, at temperature 1
  sampler_logprobs: jax.Array  # float32 [P, n, T]: of the distribution drawn from; 0 where forced
  lengths: jax.Array  # int32 [P, n]
  stopped: jax.Array  # bool [P, n]: False where the response was cut at its limit
  # int32 [W]: decode passes that were run in each of `windows(shape)`; where devices decode rows of
  # their own, by the one that ran the most
  steps: jax.Array


class SampleState(NamedTuple):
  """The state of a block between two tokens."""

  cache: transformer.Cache
  first: jax.Array  # [P, V]: logits of a response's first token
  logits: jax.Array  # [B, V] of the next token, but for a row with none drawn yet
  token: jax.Array  # [B]: the last one drawn
  index: jax.Array  # [P, m]: the row's sample; n where there is none left
  drawn: jax.Array  # [P, m]: tokens of it so far
  state: jax.Array  # [P, m] of the stop automaton
  marked: jax.Array  # [P, m]: it has said the mark
  log: tuple  # token, logprob, sampler_logprob of each row [C, P, m] by pass
  begun: jax.Array  # [P, n]: the pass of the sample's first token
  row: jax.Array  # [P, n]: the row that drew it
  lengths: jax.Array  # [P, n]
  stopped: jax.Array  # [P, n]
  t: jax.Array  # [] draws so far


def no_limits(shape: SampleShape) -> Limits:
  """Each response up to the shape's own bound."""
  of = lambda tokens: np.full(shape.prompts, tokens, np.int32)
  return Limits(of(shape.response_tokens), of(0), of(shape.response_tokens), np.int32(-1))


def windows(shape: SampleShape) -> tuple[int, ...]:
  """Slots of the cache, one after another while responses grow: it is not all there at once, and
  a short one takes less time to attend to."""
  T = shape.response_tokens
  return (T // 4, T // 2, 3 * T // 4, T) if T >= 64 and T % 4 == 0 else (T,)


def passes(shape: SampleShape, lengths: np.ndarray) -> np.ndarray:
  """How many decode passes a block takes in each of `windows(shape)`, by the lengths [P, n] of its
  responses: `Samples.steps`, int64 [W].

  A response of l tokens keeps its row for l draws; all rows draw at once, and there is one pass
  between a draw and the next.
  """
  draws = 0
  for of_prompt in np.asarray(lengths):
    rows = [0] * shape.rows
    for length in of_prompt:
      heapq.heapreplace(rows, rows[0] + int(length))
    draws = max(draws, *rows)
  ends = np.minimum(draws - 1, [0, *windows(shape)[:-1], draws - 1])
  return np.diff(ends)


def check_shape(shape: SampleShape, key: str = 'config.sample') -> None:
  """BadInput, naming the field of the config, for a shape that cannot be."""
  for field in ('prompts', 'samples', 'rows', 'prompt_tokens', 'response_tokens'):
    if getattr(shape, field) < 1:
      raise BadInput(f'{key}: {field} of a block is {getattr(shape, field)}: at least 1')
  if shape.rows > shape.samples:
    raise BadInput(
      f'{key}.block_rows is {shape.rows}: at most {shape.samples}, the samples in a block'
    )
  chunk = shape.prompt_chunk
  if chunk < 0 or (chunk and shape.prompt_tokens % chunk):
    raise BadInput(
      f'{key}.prompt_chunk is {shape.prompt_chunk}: 0, or a divisor of {shape.prompt_tokens}, '
      'the columns of a padded prompt'
    )


def sample_keys(seed: jax.Array, update: jax.Array, prompt_hash: jax.Array, index: jax.Array):
  """A key for each (prompt, sample): typed keys [P, n].

  seed: a typed key; update: int32 []; prompt_hash: uint32 [P, 2]; index: int32 [n], or [P, n] with
  samples of its own for each prompt.
  """
  stream = jax.random.fold_in(seed, update)

  def one(hash_2, index):
    key = jax.random.fold_in(jax.random.fold_in(stream, hash_2[0]), hash_2[1])
    return jax.vmap(jax.random.fold_in, (None, 0))(key, index)

  return jax.vmap(one)(prompt_hash, jnp.broadcast_to(index, (len(prompt_hash), index.shape[-1])))


def prefill(
  cfg,
  params,
  prompts,
  lengths,
  shape: SampleShape,
  how: transformer.Mechanics = transformer.Mechanics(),
  mesh: Mesh | None = None,
) -> SampleState:
  """Runs each prompt [P, S] once; its m rows look back on one copy of its cache.

  In chunks each looks back on the cache of those before it: activations and scores are of a chunk.
  """
  P, S = prompts.shape
  n, m, T = shape.samples, shape.rows, shape.response_tokens
  place = jnp.broadcast_to(jnp.arange(S), (P, S))
  real = (place < lengths[:, None]).astype(jnp.int32)
  end = lengths[:, None] - 1
  if 0 < shape.prompt_chunk < S:
    chunk = shape.prompt_chunk

    def run(carry, start):
      cache, last = carry
      part = (jax.lax.dynamic_slice_in_dim(x, start, chunk, 1) for x in (prompts, place, real))
      x, cache = transformer.hidden(cfg, params, *part, cache, how, mesh)
      here = jnp.take_along_axis(x, jnp.clip(end - start, 0, chunk - 1)[..., None], axis=1)[:, 0]
      return (cache, jnp.where((end >= start) & (end < start + chunk), here, last)), None

    begin = transformer.empty_cache(cfg, P, S), jnp.zeros((P, cfg.d_model), cfg.dtype)
    (prefix, last), _ = jax.lax.scan(run, begin, jnp.arange(0, S, chunk))
  else:
    x, prefix = transformer.hidden(cfg, params, prompts, place, real, how=how, mesh=mesh)
    last = jnp.take_along_axis(x, end[..., None], axis=1)[:, 0]
  first = transformer.logits(cfg, transformer.unembedding(cfg, params), last)
  C = -(-n // m) * T
  zeros = lambda *shape: jnp.zeros(shape, jnp.int32)
  numbers = lambda count: jnp.broadcast_to(jnp.arange(count, dtype=jnp.int32), (P, count))
  cache = transformer.empty_cache(cfg, P * m, windows(shape)[0], prefix)
  return SampleState(
    cache=transformer.apart(cache) if transformer.layer_by_layer(mesh) else cache,
    first=first,
    logits=jnp.repeat(first, m, axis=0),
    token=zeros(P * m),
    index=numbers(m),
    drawn=zeros(P, m),
    state=zeros(P, m),
    marked=zeros(P, m) > 0,
    log=(zeros(C, P, m), *(jnp.zeros((C, P, m), jnp.float32),) * 2),
    begun=zeros(P, n),
    row=jnp.minimum(numbers(n), m - 1),
    lengths=zeros(P, n),
    stopped=zeros(P, n) > 0,
    t=jnp.int32(0),
  )


def draw(
  s: SampleState,
  keys,
  temperature,
  stops,
  limits: Limits,
  truncation: Truncation = WHOLE,
  forcing: bool = False,
) -> SampleState:
  """Draws the next token of each row that has a sample: argmax(logits / temperature + Gumbel).

  A row whose response ends thereby takes its prompt's next sample. keys: typed [P, n], of the
  samples.
  """
  (P, m), n, last = s.index.shape, s.lengths.shape[1], len(stops) - 1
  live, fresh = s.index < n, (s.drawn == 0).reshape(-1)
  logits = s.logits
  if m < n:
    logits = jnp.where(fresh[:, None], jnp.repeat(s.first, m, axis=0), logits)
  scaled = logits / temperature
  if forcing:
    early = ((s.drawn < limits.least[:, None]) & ~s.marked).reshape(-1)
    ends = stops[s.state.reshape(-1)] == last
    ends |= jnp.arange(ends.shape[1]) == limits.mark
    scaled = jnp.where(early[:, None] & ends, -jnp.inf, scaled)
  scaled = truncate(scaled, truncation)
  if m < n:
    keys = keys[jnp.arange(P)[:, None], jnp.minimum(s.index, n - 1)]
  noise_keys = jax.vmap(jax.random.fold_in)(keys.reshape(-1), s.drawn.reshape(-1))
  noise = jax.vmap(lambda key: jax.random.gumbel(key, scaled.shape[1:]))(noise_keys)
  token = jnp.argmax(scaled + noise, axis=-1).astype(jnp.int32)
  of = lambda x, token: (
    jnp.take_along_axis(x, token[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(x, axis=-1)
  )
  sampler_logprob = of(scaled, token)
  if forcing:
    due = ((s.drawn >= limits.most[:, None]) & ~s.marked).reshape(-1)
    token = jnp.where(due, limits.mark, token)
    sampler_logprob = jnp.where(due, 0.0, sampler_logprob)
  logprob = of(logits, token)

  grid = lambda x: x.reshape(P, m)
  log = tuple(
    jax.lax.dynamic_update_slice_in_dim(old, grid(new)[None], s.t, axis=0)
    for old, new in zip(s.log, (token, logprob, sampler_logprob), strict=True)
  )
  drawn = s.drawn + 1
  state = stops[s.state, grid(token)]
  ends = live & (state == last)
  most = jnp.broadcast_to(limits.response.reshape(P, -1), (P, n))
  if m < n:
    most = jnp.take_along_axis(most, jnp.minimum(s.index, n - 1), axis=1)
  done = ends | live & (drawn >= most)
  marked = s.marked | (grid(token) == limits.mark) if forcing else s.marked

  if m == n:  # the row is the sample
    put = lambda old, new: jnp.where(done, new, old)
  else:
    its = done[:, :, None] & (s.index[:, :, None] == jnp.arange(n))
    hit = jnp.any(its, axis=1)
    put = lambda old, new: jnp.where(hit, jnp.sum(jnp.where(its, new[:, :, None], 0), axis=1), old)
  rows = jnp.broadcast_to(jnp.arange(m, dtype=jnp.int32), (P, m))
  s = s._replace(
    token=token,
    log=log,
    begun=put(s.begun, s.t + 1 - drawn),
    row=put(s.row, rows),
    lengths=put(s.lengths, drawn),
    stopped=put(s.stopped, ends.astype(jnp.int32)) > 0,
    t=s.t + 1,
  )
  # samples are handed out in order, to the rows of a prompt in order
  taken = jnp.max(jnp.minimum(s.index, n - 1), axis=1, keepdims=True)
  after = jnp.minimum(taken + jnp.cumsum(done, axis=1, dtype=jnp.int32), n)
  index = jnp.where(done, after, s.index)
  s = s._replace(
    index=index,
    drawn=jnp.where(done, 0, drawn),
    state=jnp.where(done, 0, state),
    marked=marked & ~done,
  )
  if m < n:
    valid = s.cache.valid & ~done.reshape(-1)[:, None]
    s = s._replace(cache=s.cache._replace(valid=valid))
  return s


def decode(
  cfg,
  params,
  s: SampleState,
  lengths,
  how: transformer.Mechanics = transformer.Mechanics(),
  mesh: Mesh | None = None,
) -> SampleState:
  """Feeds the last token drawn of each row that is within a response; the state then holds the
  logits of the next. lengths: [P] of the prompts."""
  within = ((s.index < s.lengths.shape[1]) & (s.drawn > 0)).reshape(-1, 1)
  positions = (lengths[:, None] + s.drawn - 1).reshape(-1, 1)
  logits, cache = transformer.apply(
    cfg, params, s.token[:, None], positions, within.astype(jnp.int32), s.cache, how, mesh
  )
  return s._replace(cache=cache, logits=logits[:, 0])


def collect(s: SampleState, shape: SampleShape, steps) -> Samples:
  """Out of the log by row and pass, the samples."""
  t = jnp.arange(shape.response_tokens)
  inside = t < s.lengths[..., None]
  if shape.rows == shape.samples:
    take = lambda log: log[: shape.response_tokens].transpose(1, 2, 0)
  else:
    # the log of each prompt [C, m] at (pass, row) of each of its tokens
    at = jnp.minimum(s.begun[..., None] + t, len(s.log[0]) - 1)
    one = lambda log, at, row: log[at, row[:, None]]
    take = lambda log: jax.vmap(one)(log.swapaxes(0, 1), at, s.row)
  tokens, logprobs, sampler_logprobs = (jnp.where(inside, take(log), 0) for log in s.log)
  return Samples(tokens, logprobs, sampler_logprobs, s.lengths, s.stopped, steps)


@functools.lru_cache
def make_sampler(
  cfg: transformer.ModelConfig,
  shape: SampleShape,
  mesh: Mesh,
  how: transformer.Mechanics = transformer.Mechanics(),
  truncation: Truncation = WHOLE,
  forcing: bool = False,
) -> Callable:
  """A jitted sampler of one shape:

      sample(params, prompts, lengths, hashes, seed, update, first, temperature, stops, limits)

  It prefills every prompt once and decodes until every response has ended. The parameters are
  gathered along the mesh's fsdp axis once, and not for every token. Where the mesh splits rows
  alone each device decodes until its own responses have ended, and none waits for another.

  Args of `sample`:
    params: of cfg.
    prompts: int32 [P, prompt_tokens], padded on the right; lengths: int32 [P], at least 1.
    hashes: uint32 [P, 2]; seed: a typed key; update: int32 []; first: int32 [], or [P, 1] with
      one for each prompt, the first sample's index.
    temperature: above 0.
    stops: int32 [A, V], the automaton of `stops.table`; a token past its columns has no text.
    limits: `Limits`; see `no_limits`.

  Returns:
    sample, which returns Samples.

  Raises:
    BadInput: a shape or truncation that cannot be; prompts that do not split over the mesh.
  """
  check_shape(shape)
  check_truncation(truncation)
  sharding.check_rows(mesh, shape.prompts, 'prompts of a sampling block')
  n = shape.samples
  layout = sharding.shardings(mesh, transformer.form(cfg))
  apart = how.attention == 'plain' and sharding.splits_rows_alone(mesh, layout)
  own = sharding.make_mesh(devices=mesh.devices.flat[:1]) if apart else mesh  # of a device's rows

  def sample(params, prompts, lengths, hashes, seed, update, first, temperature, stops, limits):
    here = shape._replace(prompts=len(prompts))
    spare = jnp.arange(len(stops), dtype=jnp.int32)[:, None]
    spare = jnp.broadcast_to(spare, (len(stops), max(0, cfg.padded_vocab - stops.shape[1])))
    stops = jnp.concatenate([stops, spare], axis=1)
    keys = sample_keys(seed, update, hashes, first + jnp.arange(n))
    params = sharding.gather(own, transformer.cast(cfg, params))
    next_token = functools.partial(
      draw,
      keys=keys,
      temperature=temperature,
      stops=stops,
      limits=limits,
      truncation=truncation,
      forcing=forcing,
    )
    s = next_token(prefill(cfg, params, prompts, lengths, here, how, own))
    if transformer.layer_by_layer(own):
      params = transformer.layers(params)
    steps = []
    for i, slots in enumerate(windows(shape)):
      before = s.t
      s = s._replace(cache=transformer.grow_cache(s.cache, slots))
      last = i + 1 == len(windows(shape))
      s = jax.lax.while_loop(
        lambda s, slots=slots, last=last: jnp.any(s.index < n) & (last | (s.cache.length < slots)),
        lambda s: next_token(decode(cfg, params, s, lengths, how, own)),
        s,
      )
      steps.append(s.t - before)
    steps = jnp.stack(steps)
    return collect(s, here, jax.lax.pmax(steps, sharding.ROWS) if apart else steps)

  def sample_apart(params, prompts, lengths, hashes, seed, update, first, *rest):
    first = jnp.broadcast_to(first, (len(prompts), 1))
    rows, whole = PartitionSpec(sharding.ROWS), PartitionSpec()
    limits = Limits(rows, rows, rows, whole)
    return jax.shard_map(
      sample,
      mesh=mesh,
      in_specs=(whole, rows, rows, rows, whole, whole, rows, whole, whole, limits),
      out_specs=Samples(rows, rows, rows, rows, rows, whole),
      check_vma=False,
    )(params, prompts, lengths, hashes, seed, update, first, *rest)

  rows, none = sharding.rows(mesh), sharding.replicated(mesh)
  return jax.jit(
    sample_apart if apart else sample,
    in_shardings=(
      layout,
      *[rows] * 3,
      *[none] * 6,
    ),
    out_shardings=Samples(*[rows] * 5, none),
  )
