"""The model: a decoder-only transformer, one call for the loss, the prefill and the decode.

    apply(cfg, params, tokens, positions, segment_ids, cache) -> (logits, cache)

Axes: B rows, T new tokens, S cache slots, P prompts (B = P x samples when a prefix is shared),
L layers, D model width, N query heads, K key-value heads, G = N / K, H head width, F feed-forward
width, V vocabulary.

The architecture is the common one of Llama and Qwen: RMSNorm before each sublayer, rotary
positions (half-rotation), grouped-query attention, SwiGLU; options are QK-norm, QKV bias and tied
embeddings. Layers are stacked along a leading axis and scanned, so that the time to compile does
not grow with depth. The Flax NNX module is used functionally: split once into a static graph and a
plain dict of arrays; nothing here mutates.
"""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from scaling.errors import BadInput


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Shapes and options of a model. Every field changes the logits (a test sees to it)."""

  vocab_size: int
  d_model: int
  n_layers: int
  n_heads: int
  n_kv_heads: int
  head_dim: int
  d_ff: int
  rope_theta: float = 10_000.0
  norm_eps: float = 1e-6
  qk_norm: bool = False  # RMSNorm on each head's query and key (Qwen3)
  qkv_bias: bool = False  # biases on the three input projections (Qwen2)
  tied_embeddings: bool = True
  dtype: str = 'float32'  # of the matmuls; parameters, norms, softmax and logits are float32

  def __post_init__(self):
    for field in ('vocab_size', 'd_model', 'n_layers', 'n_heads', 'n_kv_heads', 'head_dim', 'd_ff'):
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
    if self.dtype not in ('float32', 'bfloat16'):
      raise BadInput(f'model.dtype is {self.dtype!r}: float32 or bfloat16')


class Cache(NamedTuple):
  """Keys and values already computed.

  `prefix` is the cache of P prompts, each shared by B / P consecutive rows and never repeated in
  memory; own slots are written in lock step: `length` of them are used in every row.
  """

  k: jax.Array  # [L, B, S, K, H]
  v: jax.Array  # [L, B, S, K, H]
  valid: jax.Array  # bool [B, S]: the slot holds a real token
  length: jax.Array  # int32 []
  prefix: 'Cache | None' = None


def empty_cache(cfg: ModelConfig, rows: int, slots: int, prefix: Cache | None = None) -> Cache:
  """A cache of `slots` empty slots for `rows` rows, behind a shared prefix if one is given."""
  shape = (cfg.n_layers, rows, slots, cfg.n_kv_heads, cfg.head_dim)
  zeros = jnp.zeros(shape, cfg.dtype)
  return Cache(zeros, zeros, jnp.zeros((rows, slots), bool), jnp.int32(0), prefix)


def _normal(rngs: nnx.Rngs, shape: tuple[int, ...], std: float) -> nnx.Param:
  return nnx.Param(std * jax.random.truncated_normal(rngs.params(), -3, 3, shape, jnp.float32))


def _rms_norm(x, scale, eps):
  """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (1910.07467)."""
  y = x.astype(jnp.float32)
  y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + eps)
  return (y * scale).astype(x.dtype)


def _rotate(x_BxTxNxH, positions_BxT, theta):
  """Rotary positions (2104.09864): the halves of a head are the two coordinates of each pair."""
  half = x_BxTxNxH.shape[-1] // 2
  frequency = theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
  angle = positions_BxT.astype(jnp.float32)[..., None, None] * frequency
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  a, b = jnp.split(x_BxTxNxH.astype(jnp.float32), 2, axis=-1)
  return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BxTxNxH.dtype)


def _attend(q_BxTxNxH, parts):
  """softmax(q k^T / sqrt(H)) v over several parts of keys and values, never concatenated.

  A part is (k [P,S,K,H], v [P,S,K,H], mask, broadcastable to [P, B/P, T, S]); each of its P rows
  is shared by B / P consecutive rows of q. Scores and softmax are float32.
  """
  B, T, N, H = q_BxTxNxH.shape
  K = parts[0][0].shape[2]
  scores = []
  for k, _, mask in parts:
    P, S = k.shape[:2]
    q = q_BxTxNxH.reshape(P, B // P, T, K, N // K, H)
    s = jnp.einsum('pbtkgh,pskh->pkgbts', q, k, preferred_element_type=jnp.float32)
    s = jnp.where(mask[:, None, None], s * H**-0.5, -1e30)
    scores.append(jnp.moveaxis(s, 3, 1).reshape(B, K, N // K, T, S))
  weights = jax.nn.softmax(jnp.concatenate(scores, -1), axis=-1).astype(q_BxTxNxH.dtype)
  out, start = 0, 0
  for k, v, _ in parts:
    P, S = k.shape[:2]
    w = weights[..., start : start + S].reshape(P, B // P, K, N // K, T, S)
    out += jnp.einsum('pbkgts,pskh->pbtkgh', w, v).reshape(B, T, N, H)
    start += S
  return out


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

  def __call__(self, x_BxTxD, positions, masks, past):
    """Returns the new stream and the new tokens' (k, v) [B, T, K, H].

    masks: of the new tokens among themselves, then one for each entry of `past`.
    past: (k, v) of the cache and of its prefix, where there are any.
    """
    cfg = self.cfg
    D = cfg.d_model
    cast = lambda w: w[...].astype(cfg.dtype)
    project = lambda x, w: (x @ cast(w).reshape(D, -1)).reshape(*x.shape[:2], *w.shape[1:])
    x = _rms_norm(x_BxTxD, self.attention_norm[...], cfg.norm_eps)
    q, k, v = project(x, self.wq), project(x, self.wk), project(x, self.wv)
    if cfg.qkv_bias:
      q, k, v = q + cast(self.bq), k + cast(self.bk), v + cast(self.bv)
    if cfg.qk_norm:
      q = _rms_norm(q, self.q_norm[...], cfg.norm_eps)
      k = _rms_norm(k, self.k_norm[...], cfg.norm_eps)
    q, k = (_rotate(y, positions, cfg.rope_theta) for y in (q, k))
    parts = [(*kv, mask) for kv, mask in zip([(k, v), *past], masks, strict=True)]
    y = _attend(q, parts)
    x_BxTxD = x_BxTxD + y.reshape(*y.shape[:2], -1) @ cast(self.wo).reshape(-1, D)
    x = _rms_norm(x_BxTxD, self.mlp_norm[...], cfg.norm_eps)
    y = jax.nn.silu(x @ cast(self.w_gate)) * (x @ cast(self.w_up))
    return x_BxTxD + y @ cast(self.w_down), (k, v)


class Transformer(nnx.Module):
  """Embedding, a stack of blocks, a final norm, and the unembedding."""

  def __init__(self, cfg: ModelConfig, rngs: nnx.Rngs):
    self.cfg = cfg
    self.embed = _normal(rngs, (cfg.vocab_size, cfg.d_model), cfg.d_model**-0.5)

    @nnx.split_rngs(splits=cfg.n_layers)
    @nnx.vmap(in_axes=0)
    def stack(rngs):
      return Block(cfg, rngs)

    self.blocks = stack(rngs)
    self.final_norm = nnx.Param(jnp.ones(cfg.d_model))
    if not cfg.tied_embeddings:
      self.unembed = _normal(rngs, (cfg.d_model, cfg.vocab_size), cfg.d_model**-0.5)

  def __call__(self, tokens_BxT, positions, segment_ids, cache, unroll):
    cfg = self.cfg
    new, masks = _masks(tokens_BxT, segment_ids, cache)
    sources = [] if cache is None else [c for c in (cache, cache.prefix) if c is not None]
    graph, stacked = nnx.split(self.blocks)

    def layer(x, inputs):
      block, past = inputs
      return nnx.merge(graph, block)(x, positions, masks, past)

    x = self.embed[...].astype(cfg.dtype)[tokens_BxT]
    past = [(c.k, c.v) for c in sources]
    x, (k, v) = jax.lax.scan(layer, x, (stacked, past), unroll=unroll)
    x = _rms_norm(x, self.final_norm[...], cfg.norm_eps)
    unembed = self.embed[...].T if cfg.tied_embeddings else self.unembed[...]
    logits = jnp.matmul(x, unembed.astype(cfg.dtype), preferred_element_type=jnp.float32)
    if cache is None:
      return logits, Cache(k, v, new, jnp.int32(tokens_BxT.shape[1]))
    put = lambda old, update, axis: jax.lax.dynamic_update_slice_in_dim(
      old, update, cache.length, axis
    )
    return logits, Cache(
      put(cache.k, k, 2),
      put(cache.v, v, 2),
      put(cache.valid, new, 1),
      cache.length + tokens_BxT.shape[1],
      cache.prefix,
    )


def _masks(tokens_BxT, segment_ids, cache):
  """Which of the new tokens are real [B, T], and one mask [P, B/P, T, S] for each part of keys."""
  B, T = tokens_BxT.shape
  causal = jnp.tril(jnp.ones((T, T), bool))
  if segment_ids is None:
    new = jnp.ones((B, T), bool)
    masks = [causal[None, None]]
  else:
    new = segment_ids > 0
    same = segment_ids[:, :, None] == segment_ids[:, None, :]
    masks = [(causal & same)[:, None]]
  if cache is not None:
    masks.append(cache.valid[:, None, None, :])
    if cache.prefix is not None:
      masks.append(cache.prefix.valid[:, None, None, :])
  return new, masks


@functools.lru_cache
def _graph(cfg: ModelConfig):
  """The static half of the module, split off once for each config."""
  return nnx.split(nnx.eval_shape(lambda: Transformer(cfg, nnx.Rngs(0))))[0]


def init(cfg: ModelConfig, key: jax.Array) -> dict:
  """Fresh float32 parameters: a plain nested dict of arrays, block parameters stacked [L, ...]."""
  return nnx.to_pure_dict(nnx.state(Transformer(cfg, nnx.Rngs(params=key)), nnx.Param))


def apply(
  cfg: ModelConfig,
  params: dict,
  tokens: jax.Array,
  positions: jax.Array,
  segment_ids: jax.Array | None = None,
  cache: Cache | None = None,
  unroll: int = 1,
) -> tuple[jax.Array, Cache]:
  """Logits of the next token, float32 [B, T, V], and the cache with the new tokens appended.

  Without a cache the one returned is full: it holds the new tokens alone (a prefill).

  Args:
    tokens: int32 [B, T].
    positions: int32 [B, T], the rotary position of each token within its own sequence.
    segment_ids: int32 [B, T], 0 for padding; a token sees earlier tokens of its own segment alone.
    cache: what the new tokens may look back on; its used slots belong to every row's one sequence.
    unroll: layers unrolled in each step of the scan; all of them, and the program has no loop.
  """
  return nnx.merge(_graph(cfg), params)(tokens, positions, segment_ids, cache, unroll)
