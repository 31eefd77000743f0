"""The model: a decoder-only transformer, one call for the loss, the prefill and the decode.

    apply(cfg, params, tokens, positions, segment_ids, cache) -> (logits, cache)

`apply` is `logits` after `hidden`; who needs few logits, or few at a time, calls the two.

Axes: B rows, T new tokens, S cache slots, P prompts (B = P x samples when a prefix is shared),
L layers, D model width, N query heads, K key-value heads, G = N / K, H head width, F feed-forward
width, V vocabulary (padded), r rank of an adapter.

The architecture is the common one of Llama and Qwen: RMSNorm before each sublayer, rotary
positions (half-rotation), grouped-query attention, SwiGLU; options are QK-norm, QKV bias, scaled
rotary frequencies and tied embeddings. Layers are stacked along a leading axis and scanned, so that
the time to compile does not grow with depth. The Flax NNX module is used functionally: split once
into a static graph and a plain dict of arrays; nothing here mutates.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from scaling import sharding
from scaling.errors import BadInput
from scaling.model import attention


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Shapes and options of a model. Every field but vocab_multiple changes what it gives."""

  vocab_size: int
  d_model: int
  n_layers: int
  n_heads: int
  n_kv_heads: int
  head_dim: int
  d_ff: int
  rope_theta: float = 10_000.0
  # Llama 3: (factor, low_freq_factor, high_freq_factor, original positions), see `frequencies`
  rope_scaling: tuple[float, ...] = ()
  norm_eps: float = 1e-6
  qk_norm: bool = False  # RMSNorm on each head's query and key (Qwen3)
  qkv_bias: bool = False  # biases on the three input projections (Qwen2)
  tied_embeddings: bool = True
  head: str = 'tokens'  # what is read off the stream: logits of tokens, or a 'scalar' (`values`)
  vocab_multiple: int = 1  # rows of the embedding are padded to a multiple; spare logits: -1e30
  mup_base: int = 0  # muP (2203.03466) relative to this width; 0: standard, see `init`
  lora_rank: int = 0  # adapters beside every matrix of a block (2106.09685); the rest is frozen
  lora_alpha: float = 16.0  # an adapter adds (alpha / rank) x A B
  dtype: str = 'float32'  # of the matmuls; parameters, norms, softmax and logits are float32

  def __post_init__(self):
    object.__setattr__(self, 'rope_scaling', tuple(self.rope_scaling))  # JSON has lists
    for field in (
      *('vocab_size', 'd_model', 'n_layers', 'n_heads', 'n_kv_heads', 'head_dim', 'd_ff'),
      'vocab_multiple',
    ):
      if getattr(self, field) < 1:
        raise BadInput(f'model.{field} is {getattr(self, field)}: it must be at least 1')
    if self.n_heads % self.n_kv_heads:
      raise BadInput(
        f'model.n_heads ({self.n_heads}) is not a multiple of model.n_kv_heads '
        f'({self.n_kv_heads}): each key-value head serves a whole number of query heads'
      )
    if self.head_dim % 2:
      raise BadInput(
        f'model.head_dim ({self.head_dim}) is odd: rotary positions turn pairs, make it even'
      )
    if len(self.rope_scaling) not in (0, 4):
      raise BadInput(f'model.rope_scaling has {len(self.rope_scaling)} numbers: it has none or 4')
    if self.head not in ('tokens', 'scalar'):
      raise BadInput(f"model.head is {self.head!r}: 'tokens' (logits) or 'scalar' (a reward model)")
    if self.dtype not in ('float32', 'bfloat16'):
      raise BadInput(f'model.dtype is {self.dtype!r}: float32 or bfloat16')

  @property
  def padded_vocab(self) -> int:
    """Rows of the embedding."""
    return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple


REMAT = {  # what of a block is kept for the backward pass; the rest is computed again
  'none': None,  # everything is kept
  'dots': jax.checkpoint_policies.save_from_both_policies(  # matmuls with weights are kept,
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
    attention.kept,  # and what the kernels of attention need for theirs
  ),
  'block': jax.checkpoint_policies.nothing_saveable,  # a block's input alone is kept
}


class Mechanics(NamedTuple):
  """How a pass is computed. None of it changes the result beyond float tolerance."""

  attention: str = 'plain'  # of scaling/model/attention.py: plain, cudnn or splash
  remat: str = 'none'  # of REMAT
  unroll: int = 1  # layers unrolled in each step of the scan; all: the program has no loop
  loss_chunk: int = 0  # columns of a batch whose logits the loss holds at a time; 0: all of them
  microbatches: int = 1  # parts that a batch is cut into, their gradients added up


class Cache(NamedTuple):
  """Keys and values already computed.

  `prefix` is the cache of P prompts, each shared by B / P consecutive rows and never repeated in
  memory. The slots of all rows are written in lock step, and are a ring: after the last comes the
  first again. What a row sees of its own slots is said by `valid`, and may be edited.
  """

  k: jax.Array | tuple  # [L, B, K, H, S]; or, see `apart`, L arrays without the first axis
  v: jax.Array | tuple  # [L, B, K, S, H]
  valid: jax.Array  # bool [B, S]: the slot holds a token that the row may look back on
  length: jax.Array  # int32 []: slots written so far, overwritten ones counted again
  prefix: 'Cache | None' = None


def empty_cache(cfg: ModelConfig, rows: int, slots: int, prefix: Cache | None = None) -> Cache:
  """A cache of `slots` empty slots for `rows` rows, behind a shared prefix if one is given."""
  heads = cfg.n_layers, rows, cfg.n_kv_heads
  shapes = (cfg.head_dim, slots), (slots, cfg.head_dim)
  k, v = (jnp.zeros((*heads, *shape), cfg.dtype) for shape in shapes)
  return Cache(k, v, jnp.zeros((rows, slots), bool), jnp.int32(0), prefix)


def grow_cache(cache: Cache, slots: int) -> Cache:
  """The cache with empty slots behind its own, of which none may have been overwritten."""
  more = slots - cache.valid.shape[-1]
  pad = lambda x, axis: jnp.pad(x, [(0, more * (i == x.ndim + axis)) for i in range(x.ndim)])
  k = jax.tree.map(lambda x: pad(x, -1), cache.k)
  v = jax.tree.map(lambda x: pad(x, -2), cache.v)
  return cache._replace(k=k, v=v, valid=pad(cache.valid, -1))


def layer_by_layer(mesh: Mesh | None) -> bool:
  """Whether tokens are decoded through layers that are `apart`, one after another, not in a scan.

  In a scan XLA on CPUs and GPUs copies the parameters and the slots of each layer out of their
  stacks before it reads them, for every token.
  """
  platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
  return platform in ('cpu', 'gpu')


def apart(cache: Cache) -> Cache:
  """The cache, and its prefix, with an array for each layer in place of a stack."""
  prefix = None if cache.prefix is None else apart(cache.prefix)
  return cache._replace(k=tuple(cache.k), v=tuple(cache.v), prefix=prefix)


def layers(params: dict) -> dict:
  """The parameters with those of the blocks as a tuple, a dict a layer; read with a cache that is
  `apart`. Taken apart once, before a loop over tokens, they are not copied in it."""
  count = len(next(iter(params['blocks'].values())))
  return params | {
    'blocks': tuple({name: x[i] for name, x in params['blocks'].items()} for i in range(count))
  }


def frequencies(cfg: ModelConfig) -> np.ndarray:
  """Radians a position by which each pair of a head turns, float32 [H / 2].

  f_i = theta^(-2i / H) (2104.09864). With rope_scaling (Llama 3.1, 2407.21783): a pair that turns
  less than `low` times within the original positions turns `factor` times slower, one that turns
  more than `high` times as before, and those between by a linear blend.
  """
  exponents = np.arange(0, cfg.head_dim, 2, np.float32) / cfg.head_dim
  # Rounded step by step as torch does: at position 20,000 an ulp of the fastest pairs is 1e-3 rad.
  f = 1 / np.float32(np.float64(cfg.rope_theta) ** exponents)
  if not cfg.rope_scaling:
    return f
  factor, low, high, original = cfg.rope_scaling
  turns = original * (1 / (2 * math.pi * (1 / f)))
  kept = np.clip((turns - low) / (high - low), 0, 1)
  return (1 - kept) * f / factor + kept * f


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
  return nnx.Param(std * jax.random.truncated_normal(rngs.params(), -3, 3, shape, jnp.float32))


def _rms_norm(x, scale, eps):
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (1910.07467)."""
  y = x.astype(jnp.float32)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
  return (y * scale).astype(x.dtype)


def turn(cfg: ModelConfig, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """(cos, sin), float32 [B, T, 1, H / 2], of the angles by which each position turns each pair."""
  angle = positions.astype(jnp.float32)[..., None, None] * frequencies(cfg)
  return jnp.cos(angle), jnp.sin(angle)


def _rotate(x_BxTxNxH, turn):
  """Rotary positions: the halves of a head are the two coordinates of each pair."""
  cos, sin = turn
  a, b = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BxTxNxH.dtype)


@jax.custom_vjp
def _times(x_BxTxD, w_DxF):
  """x w, with the gradient of w as x^T dy.

  Autodiff has it as (dy^T x)^T, for which XLA on CPUs writes out the transpose of dy, and computes
  the elementwise backward pass anew in that order: about a quarter of a step, there.
  """
  return x_BxTxD @ w_DxF


def _times_bwd(saved, dy):
  x, w = saved
  return dy @ w.T, jnp.einsum('btd,btf->df', x, dy)


_times.defvjp(lambda x, w: (x @ w, (x, w)), _times_bwd)


class Block(nnx.Module):
  """x + attention(norm(x)), then x + SwiGLU(norm(x)) (2002.05202)."""

  def __init__(self, cfg: ModelConfig, rngs: nnx.Rngs):
    D, N, K, H, F = cfg.d_model, cfg.n_heads, cfg.n_kv_heads, cfg.head_dim, cfg.d_ff
    residual = (2 * cfg.n_layers) ** -0.5  # each sublayer adds to the stream: keep its variance
    self.cfg = cfg
    self.attention_norm = nnx.Param(jnp.ones(D))
    self.wq = _normal(rngs, (D, N, H), D**-0.5)
    self.wk = _normal(rngs, (D, K, H), D**-0.5)
    self.wv = _normal(rngs, (D, K, H), D**-0.5)
    self.wo = _normal(rngs, (N, H, D), (N * H) ** -0.5 * residual)
    self.mlp_norm = nnx.Param(jnp.ones(D))
    self.w_gate = _normal(rngs, (D, F), D**-0.5)
    self.w_up = _normal(rngs, (D, F), D**-0.5)
    self.w_down = _normal(rngs, (F, D), F**-0.5 * residual)
    if cfg.qkv_bias:
      self.bq, self.bk, self.bv = (nnx.Param(jnp.zeros((n, H))) for n in (N, K, K))
    if cfg.qk_norm:
      self.q_norm, self.k_norm = nnx.Param(jnp.ones(H)), nnx.Param(jnp.ones(H))
    if cfg.lora_rank:
      for name, (rows, columns) in adapted(cfg).items():
        setattr(self, f'{name}_a', _normal(rngs, (rows, cfg.lora_rank), rows**-0.5))
        setattr(self, f'{name}_b', nnx.Param(jnp.zeros((cfg.lora_rank, columns))))

  def __call__(self, x_BxTxD, turn, attend, place):
    """Returns the new stream and the new tokens' (k, v) [B, T, K, H].

    turn: for `_rotate`; attend(q, k, v) -> [B, T, N, H]; place(x, name) lays an activation over the
    mesh as sharding.ACTIVATIONS has it.
    """
    cfg, dtype = self.cfg, self.cfg.dtype
    B, T, D = x_BxTxD.shape

    def times(x, name, rows):  # x [B, T, rows] by a matrix of the block, and by its adapter
      y = _times(x, getattr(self, name)[...].astype(dtype).reshape(rows, -1))
      if cfg.lora_rank:
        a, b = (getattr(self, f'{name}_{half}')[...].astype(dtype) for half in 'ab')
        y += (cfg.lora_alpha / cfg.lora_rank) * ((x @ a) @ b)
      return y

    x = _rms_norm(x_BxTxD, self.attention_norm[...], cfg.norm_eps)
    q, k, v = (times(x, w, D).reshape(B, T, -1, cfg.head_dim) for w in ('wq', 'wk', 'wv'))
    if cfg.qkv_bias:
      q, k, v = (y + b[...].astype(dtype) for y, b in ((q, self.bq), (k, self.bk), (v, self.bv)))
    if cfg.qk_norm:
      q = _rms_norm(q, self.q_norm[...], cfg.norm_eps)
      k = _rms_norm(k, self.k_norm[...], cfg.norm_eps)
    q, k = _rotate(q, turn), _rotate(k, turn)
    y = attend(place(q, 'queries'), place(k, 'keys'), place(v, 'keys'))
    y = place(y, 'queries').reshape(B, T, -1)
    x_BxTxD = place(x_BxTxD + times(y, 'wo', y.shape[-1]), 'stream')
    x = _rms_norm(x_BxTxD, self.mlp_norm[...], cfg.norm_eps)
    y = place(jax.nn.silu(times(x, 'w_gate', D)) * times(x, 'w_up', D), 'feed_forward')
    return place(x_BxTxD + times(y, 'w_down', y.shape[-1]), 'stream'), (k, v)


def adapted(cfg: ModelConfig) -> dict[str, tuple[int, int]]:
  """The matrices of a block that an adapter stands beside: (rows, columns) of each, by name."""
  D, F = cfg.d_model, cfg.d_ff
  queries, keys = cfg.n_heads * cfg.head_dim, cfg.n_kv_heads * cfg.head_dim
  return {
    'wq': (D, queries),
    'wk': (D, keys),
    'wv': (D, keys),
    'wo': (queries, D),
    'w_gate': (D, F),
    'w_up': (D, F),
    'w_down': (F, D),
  }


class Transformer(nnx.Module):
  """Embedding, a stack of blocks, a final norm, and the unembedding or a scalar head."""

  def __init__(self, cfg: ModelConfig, rngs: nnx.Rngs):
    self.cfg = cfg
    std = (cfg.mup_base or cfg.d_model) ** -0.5
    self.embed = _normal(rngs, (cfg.padded_vocab, cfg.d_model), std)

    @nnx.split_rngs(splits=cfg.n_layers)
    @nnx.vmap(in_axes=0)
    def stack(rngs):
      return Block(cfg, rngs)

    self.blocks = stack(rngs)
    self.final_norm = nnx.Param(jnp.ones(cfg.d_model))
    if cfg.head == 'scalar':
      self.head = nnx.Param(jnp.zeros(cfg.d_model))
    elif not cfg.tied_embeddings:
      self.unembed = _normal(rngs, (cfg.d_model, cfg.padded_vocab), std)

  def hidden(self, tokens_BxT, positions, segment_ids, cache, how, mesh, prefix):
    cfg = self.cfg
    place = functools.partial(sharding.constrain, mesh)
    sources = [cache, prefix if cache is None else cache.prefix]
    sources = [source for source in sources if source is not None]
    new, masks = _masks(tokens_BxT, segment_ids, sources)
    turned = positions if isinstance(positions, tuple) else turn(cfg, positions)
    graph, stacked = nnx.split(self.blocks)

    def layer(x, inputs):
      block, past = inputs

      def attend(q, k, v):
        if not sources:
          return attention.self_attention(q, k, v, segment_ids, how.attention, mesh)
        if cache is None:
          (keys, values), (own, valid) = past[0], masks
          return attention.behind_prefix(q, k, v, own[:, 0], keys, values, valid[:, 0, 0])
        parts = [(*kv, mask) for kv, mask in zip([_slots(k, v), *past], masks, strict=True)]
        return attention.attend(q, parts, attention.multiplies(mesh))

      return nnx.merge(graph, block)(x, turned, attend, place)

    if REMAT[how.remat] is not None and cache is None:
      layer = jax.checkpoint(layer, policy=REMAT[how.remat], prevent_cse=False)
    x = place(self.embed[...].astype(cfg.dtype)[tokens_BxT], 'stream')
    past = [(c.k, c.v) for c in sources]
    x, kv = jax.lax.scan(layer, x, (stacked, past), unroll=how.unroll)
    k, v = _slots(*kv)
    x = _rms_norm(x, self.final_norm[...], cfg.norm_eps)
    if cache is None:
      return x, Cache(k, v, new > 0, jnp.int32(tokens_BxT.shape[1]), prefix)
    slot = cache.length % cache.valid.shape[1]
    put = lambda old, update, axis: jax.lax.dynamic_update_slice_in_dim(old, update, slot, axis)
    return x, Cache(
      put(cache.k, k, -1),
      put(cache.v, v, -2),
      put(cache.valid, new > 0, -1),
      cache.length + tokens_BxT.shape[1],
      cache.prefix,
    )


def _hidden_apart(cfg, params, tokens_BxT, positions, segment_ids, cache, mesh):
  """`hidden` behind a cache that is `apart`: each layer writes the new tokens' slots and then
  attends to all of its own, the new ones among them: so they are written in place."""
  place = functools.partial(sharding.constrain, mesh)
  sources = [cache] if cache.prefix is None else [cache, cache.prefix]
  new, (among, behind, *shared) = _masks(tokens_BxT, segment_ids, sources)
  blocks = params['blocks'] if isinstance(params['blocks'], tuple) else layers(params)['blocks']
  graph = _block_graph(cfg)
  (B, T), S = new.shape, cache.valid.shape[1]
  slot = cache.length % S
  put = lambda old, update, axis: jax.lax.dynamic_update_slice_in_dim(old, update, slot, axis)
  seen = put(jnp.broadcast_to(behind, (B, 1, T, S)), among, -1)
  x = place(params['embed'].astype(cfg.dtype)[tokens_BxT], 'stream')
  turned, written = turn(cfg, positions), []
  for i, block in enumerate(blocks):

    def write(k, v, i=i):
      k, v = _slots(k, v)
      return put(cache.k[i], k, -1), put(cache.v[i], v, -2)

    def attend(q, k, v, i=i, write=write):
      parts = [(*write(k, v), seen)]
      parts += [(cache.prefix.k[i], cache.prefix.v[i], mask) for mask in shared]
      return attention.attend(q, parts, attention.multiplies(mesh))

    x, kv = nnx.merge(graph, block)(x, turned, attend, place)
    written.append(write(*kv))
  k, v = zip(*written, strict=True)
  x = _rms_norm(x, params['final_norm'], cfg.norm_eps)
  return x, Cache(k, v, put(cache.valid, new > 0, -1), cache.length + T, cache.prefix)


def _slots(k, v):
  """Keys and values [..., T, K, H] of new tokens as a cache has them."""
  return jnp.moveaxis(k, -3, -1), jnp.swapaxes(v, -3, -2)


def _masks(tokens_BxT, segment_ids, sources):
  """Segments of the new tokens [B, T]; and, where they look back on caches, one mask
  [P, B/P, T, S] for each part of the keys: the new tokens themselves, then those of the caches."""
  B, T = tokens_BxT.shape
  new = jnp.ones((B, T), jnp.int32) if segment_ids is None else segment_ids
  if not sources:
    return new, []
  causal = jnp.tril(jnp.ones((T, T), bool))
  same = new[:, :, None] == new[:, None, :]
  behind = [source.valid[:, None, None, :] for source in sources]
  return new, [(causal & same)[:, None], *behind]


@functools.lru_cache
def _graph(cfg: ModelConfig):
  """The static half of the module, split off once for each config."""
  return nnx.split(nnx.eval_shape(lambda: Transformer(cfg, nnx.Rngs(0))))[0]


@functools.lru_cache
def _block_graph(cfg: ModelConfig):
  """That of a single block."""
  return nnx.split(nnx.eval_shape(lambda: Block(cfg, nnx.Rngs(0))))[0]


def init(cfg: ModelConfig, key: jax.Array) -> dict:
  """Fresh float32 parameters: a plain nested dict of arrays, block parameters stacked [L, ...].

  Matrices are normal with variance 1 / (rows), those that write to the stream less by 2 L; the
  embedding has variance 1 / D. Under muP it is 1 / mup_base instead, the logits are multiplied by
  mup_base / D, and the optimiser scales the rate of the blocks' matrices (`train_step`): the sizes
  of activations and of their changes do not depend on the width then. An adapter starts as zero,
  and so does a scalar head.
  """
  return nnx.to_pure_dict(nnx.state(Transformer(cfg, nnx.Rngs(params=key)), nnx.Param))


def form(cfg: ModelConfig) -> dict:
  """The shapes of the parameters: `init` without the arrays."""
  return jax.eval_shape(functools.partial(init, cfg), jax.random.key(0))


def cast(cfg: ModelConfig, params: dict) -> dict:
  """The parameters with their matrices and biases in the matmuls' precision; norms in float32."""
  of = lambda path, x: x if path[-1].key.endswith('norm') else x.astype(cfg.dtype)
  return jax.tree_util.tree_map_with_path(of, params)


def hidden(
  cfg: ModelConfig,
  params: dict,
  tokens: jax.Array,
  positions: jax.Array,
  segment_ids: jax.Array | None = None,
  cache: Cache | None = None,
  how: Mechanics = Mechanics(),
  mesh: Mesh | None = None,
  prefix: Cache | None = None,
) -> tuple[jax.Array, Cache]:
  """The stream after the final norm [B, T, D], and the cache with the new tokens appended.

  Without a cache the one returned is full: it holds the new tokens alone (a prefill).

  Args:
    tokens: int32 [B, T].
    positions: int32 [B, T], the rotary position of each token within its own sequence; or, where
      there is no cache, what `turn` gives for them.
    segment_ids: int32 [B, T], 0 for padding; a token sees earlier tokens of its own segment alone.
      None: each row is one sequence.
    cache: what the new tokens may look back on: its valid slots are of each row's one sequence. The
      new tokens must not run past its last slot: several must fit before it.
    how: the mechanics; a cache is always attended to plainly.
    mesh: lays the activations over its axes; None leaves that to the compiler.
    prefix: the cache of P prompts that the rows go on from, B / P of them from each, where there is
      no cache: gradients go through it.
  """
  if cache is not None and isinstance(cache.k, tuple):
    return _hidden_apart(cfg, params, tokens, positions, segment_ids, cache, mesh)
  model = nnx.merge(_graph(cfg), params)
  return model.hidden(tokens, positions, segment_ids, cache, how, mesh, prefix)


def unembedding(cfg: ModelConfig, params: dict, mesh: Mesh | None = None) -> jax.Array:
  """The matrix [D, V] from the stream to the logits, in the matmuls' precision.

  On a mesh that splits rows S ways it is [S, D, V], a copy for each: gathered once, however many
  parts the logits are computed in, and its gradient added up over the shards once. BadInput for a
  model with a scalar head, which has none.
  """
  if cfg.head == 'scalar':
    raise BadInput("model.head is 'scalar': such a model gives values, and no logits to draw from")
  matrix = (params['embed'].T if cfg.tied_embeddings else params['unembed']).astype(cfg.dtype)
  return sharding.copies(mesh, matrix)


@jax.custom_vjp
def _unembed(x, w_SxDxV):
  """x [S, ..., D] by the matrix of its shard, float32; with its gradient in the matmuls' precision.

  Autodiff would multiply the float32 gradient of the logits, which takes several times as long
  where matmuls of half precision are faster.
  """
  return jnp.einsum('s...d,sdv->s...v', x, w_SxDxV, preferred_element_type=jnp.float32)


def _unembed_bwd(saved, dy):
  x, w = saved
  dy, rows = dy.astype(x.dtype), 'abc'[: x.ndim - 2]
  return jnp.einsum('s...v,sdv->s...d', dy, w), jnp.einsum(f's{rows}d,s{rows}v->sdv', x, dy)


_unembed.defvjp(lambda x, w: (_unembed(x, w), (x, w)), _unembed_bwd)


def logits(cfg: ModelConfig, matrix: jax.Array, x: jax.Array) -> jax.Array:
  """Logits of the next token, float32 [B, ..., V], of a stream [B, ..., D] after the final norm.

  matrix: `unembedding`.
  """
  shards = matrix if matrix.ndim == 3 else matrix[None]
  y = _unembed(x.reshape(len(shards), -1, *x.shape[1:]), shards).reshape(*x.shape[:-1], -1)
  if cfg.mup_base:
    y *= cfg.mup_base / cfg.d_model
  if cfg.padded_vocab > cfg.vocab_size:
    y = jnp.where(jnp.arange(cfg.padded_vocab) < cfg.vocab_size, y, -1e30)
  return y


def values(cfg: ModelConfig, params: dict, x: jax.Array) -> jax.Array:
  """What a scalar head says of a stream [..., D] after the final norm: float32 [...], x . head.

  Under muP it is multiplied by mup_base / D, as logits are.
  """
  y = jnp.matmul(x.astype(jnp.float32), params['head'][:, None])[..., 0]
  return y * (cfg.mup_base / cfg.d_model) if cfg.mup_base else y


def apply(
  cfg: ModelConfig,
  params: dict,
  tokens: jax.Array,
  positions: jax.Array,
  segment_ids: jax.Array | None = None,
  cache: Cache | None = None,
  how: Mechanics = Mechanics(),
  mesh: Mesh | None = None,
) -> tuple[jax.Array, Cache]:
  """(logits float32 [B, T, V], cache): those of `hidden`, whose arguments these are."""
  x, cache = hidden(cfg, params, tokens, positions, segment_ids, cache, how, mesh)
  return logits(cfg, unembedding(cfg, params), x), cache
