"""Attention: over several parts of keys and values, and within whole rows of packed sequences.

`attend` serves the cached paths. `self_attention` serves training, scoring and the prefill, in one
of three implementations of the same function:

- `plain`: jnp, on any device; holds the scores, float32 [B, N, T, T].
- `cudnn`: cuDNN's fused kernel through `jax.nn.dot_product_attention`: NVIDIA GPUs, half precision.
- `splash`: JAX's Pallas kernel for TPU; interpreted on a CPU, which is slow and meant for tests.

Axes: B rows, T tokens, S keys, P prompts, N query heads, K key-value heads, H head width.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling import sharding
from scaling.errors import BadInput

LANES = 128  # splash cuts rows in blocks of a multiple of this
KEPT = 'attention'  # what splash keeps for its backward pass, by the name that remat knows
KEY = 'config.mechanics.attention'


def attend(q_BxTxNxH, parts):
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


def plain(q, k, v, segment_ids):
  """`self_attention` in jnp, heads before tokens: then no product transposes the scores."""
  (B, T, N, H), K = q.shape, k.shape[2]
  q = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
  k, v = k.swapaxes(1, 2), v.swapaxes(1, 2)
  scores = jnp.einsum('bkgth,bksh->bkgts', q, k, preferred_element_type=jnp.float32)
  mask = _visible(segment_ids, segment_ids, 0)[:, None, None]
  weights = _softmax(scores * H**-0.5, mask).astype(v.dtype)
  out = jnp.einsum('bkgts,bksh->bkgth', weights, v)
  return out.transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


@jax.custom_vjp
def _softmax(scores, mask):
  """Softmax over the last axis where the mask is true, its own output all that is kept for
  ds = w (dw - sum(w dw))."""
  return jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=-1)


def _softmax_fwd(scores, mask):
  weights = _softmax(scores, mask)
  return weights, weights


def _softmax_bwd(weights, d):
  return weights * (d - jnp.sum(weights * d, axis=-1, keepdims=True)), None


_softmax.defvjp(_softmax_fwd, _softmax_bwd)


def self_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  segment_ids: jax.Array,
  implementation: str = 'plain',
  mesh: Mesh | None = None,
) -> jax.Array:
  """softmax(q k^T / sqrt(H)) v [B, T, N, H], each token over those of its segment up to itself.

  Padding is segment 0; what it gets is of no use, and finite. With `splash` and `cudnn` on a mesh
  each device works on its own rows and heads, and on its own part of the queries where the mesh
  splits rows of tokens, to which all keys are brought; with `plain` the compiler sees to that.
  Rows are padded to what a kernel takes.

  Args:
    q: [B, T, N, H].
    k, v: [B, T, K, H]; K divides N.
    segment_ids: int32 [B, T].
    implementation: 'plain', 'cudnn' or 'splash'; see `resolve`.
    mesh: where it runs; None: on JAX's default device.

  Raises:
    BadInput: the implementation cannot run on these devices or in this precision.
  """
  if implementation == 'plain':
    return plain(q, k, v, segment_ids)
  platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
  if reason := misfit(implementation, platform, q.dtype, q.shape[-1]):
    raise BadInput(reason)
  mesh = sharding.make_mesh(devices=jax.local_devices()) if mesh is None else mesh
  T = q.shape[1]
  _, sequence, _, _ = sharding.ACTIVATIONS['queries']
  spare = -T % (LANES * mesh.shape[sequence])
  pad = lambda x: jnp.pad(x, ((0, 0), (0, spare)) + ((0, 0),) * (x.ndim - 2))
  kernel = _cudnn if implementation == 'cudnn' else _splash
  return kernel(pad(q), pad(k), pad(v), pad(segment_ids), mesh)[:, :T]


def misfit(implementation: str, platform: str, dtype, head_dim: int) -> str:
  """Why an implementation cannot run, in one line; '' where it can.

  platform: a jax.Device's: 'cpu', 'gpu' or 'tpu'.
  """
  if implementation == 'plain':
    return ''
  if implementation == 'splash':
    if platform in ('tpu', 'cpu'):
      return ''
    return (
      f"{KEY} is 'splash', a kernel for TPUs: on a {platform} choose 'auto', 'cudnn' or 'plain'"
    )
  if implementation == 'cudnn':
    if platform != 'gpu':
      return f"{KEY} is 'cudnn', a kernel for GPUs: on a {platform} choose 'auto' or 'plain'"
    if jnp.dtype(dtype) not in (jnp.bfloat16, jnp.float16):
      return (
        f"{KEY} is 'cudnn', which takes bfloat16, and config.model.dtype is {jnp.dtype(dtype)}: "
        "set it to 'bfloat16', or choose 'plain'"
      )
    if head_dim % 8 or head_dim > 256:
      return (
        f"{KEY} is 'cudnn', which takes head widths that are multiples of 8 up to 256, "
        f"and the model's is {head_dim}: choose 'plain'"
      )
    return ''
  return f'{KEY} is {implementation!r}: auto, plain, cudnn or splash'


def resolve(implementation: str, platform: str, cfg) -> str:
  """The implementation that runs: 'plain', 'cudnn' or 'splash'.

  'auto' is splash on TPU; cudnn on a GPU for a bfloat16 model whose heads are at most 128 wide
  (wider ones need a Hopper or later: say 'cudnn' there); plain elsewhere.

  Args:
    implementation: config.mechanics.attention.
    platform: of the mesh's devices, 'cpu', 'gpu' or 'tpu'.
    cfg: the ModelConfig.

  Raises:
    BadInput: it was named, and cannot run.
  """
  if implementation == 'auto':
    if platform == 'tpu':
      return 'splash'
    fits = cfg.head_dim <= 128 and not misfit('cudnn', platform, cfg.dtype, cfg.head_dim)
    return 'cudnn' if fits else 'plain'
  if reason := misfit(implementation, platform, cfg.dtype, cfg.head_dim):
    raise BadInput(reason)
  return implementation


def _visible(queries_BxT, keys_BxS, first):
  """Mask [B, T, S]: the key is of the query's segment and not after it.

  first: the place in the row of the first query; keys start at 0.
  """
  (_, T), (_, S) = queries_BxT.shape, keys_BxS.shape
  causal = first + jnp.arange(T)[:, None] >= jnp.arange(S)
  return causal & (queries_BxT[:, :, None] == keys_BxS[:, None, :])


def _splash(q, k, v, segment_ids, mesh):
  """`self_attention` of rows of a multiple of LANES tokens for each shard, by the Pallas kernel.

  It keeps one float32 for each query and head, and skips blocks of keys that are after all of a
  block of queries.
  """
  T, N, H = q.shape[1:]
  queries, keys = _specs(mesh, q, k)
  _, sequence, heads, _ = queries
  block = lambda length: next(b for b in (512, 256, LANES) if length % b == 0)
  block_q, block_kv = block(T // mesh.shape[sequence]), block(T)
  kernel = splash.make_splash_mha(
    splash_mask.MultiHeadMask([splash_mask.CausalMask((T, T))] * N),
    block_sizes=splash.BlockSizes(
      block_q=block_q,
      block_kv=block_kv,
      block_q_dkv=block_q,
      block_kv_dkv=block_kv,
      block_q_dq=block_q,
      block_kv_dq=block_kv,
    ),
    head_shards=mesh.shape[heads] if heads else 1,
    q_seq_shards=mesh.shape[sequence],
    interpret=mesh.devices.flat[0].platform == 'cpu',
    residual_checkpoint_name=KEPT,
  )

  def local(kernel, q, k, v, segments, key_segments):
    q = (q.astype(jnp.float32) * H**-0.5).astype(q.dtype)  # the kernel does not scale
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    return jax.vmap(kernel)(q, k, v, splash.SegmentIds(segments, key_segments)).swapaxes(1, 2)

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(
      kernel.manual_sharding_spec(NamedSharding(mesh, P(heads, sequence))),
      queries,
      keys,
      keys,
      P(*queries[:2]),
      P(*keys[:2]),
    ),
    out_specs=queries,
    check_vma=False,
  )(kernel, q, k, v, segment_ids, segment_ids)


def _cudnn(q, k, v, segment_ids, mesh):
  """`self_attention` of rows of a multiple of LANES tokens for each shard, by cuDNN's kernel.

  Segments go in as a mask, of the matmuls' precision and without heads: [B, 1, T, T]. Blocks above
  the diagonal are skipped where the mesh does not split the rows' tokens.
  """
  queries, keys = _specs(mesh, q, k)
  _, sequence, _, _ = queries
  whole = mesh.shape[sequence] == 1

  def local(q, k, v, segments, key_segments):
    first = 0 if whole else jax.lax.axis_index(sequence) * q.shape[1]
    mask = _visible(segments, key_segments, first)[:, None]
    return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=whole, implementation='cudnn')

  return jax.shard_map(
    local,
    mesh=mesh,
    in_specs=(queries, keys, keys, P(*queries[:2]), P(*keys[:2])),
    out_specs=queries,
    check_vma=False,
  )(q, k, v, segment_ids, segment_ids)


def _specs(mesh, q, k):
  """How q and the keys lie over the mesh. Heads are split together, or not at all."""
  keys = sharding.spec(mesh, k.shape, 'keys')
  rows, _, heads, _ = keys
  return P(rows, sharding.spec(mesh, q.shape, 'queries')[1], heads, None), keys
