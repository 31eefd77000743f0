"""Attention: over several parts of keys and values, and within whole rows of packed sequences.

`attend` serves the cached paths. `self_attention` serves training, scoring and the prefill, in one
of three implementations of the same function:

- `plain`: jnp, on any device; holds the scores, float32 [B, N, T, T], of long rows 5/8 of them.
- `cudnn`: cuDNN's fused kernel through `jax.nn.dot_product_attention`: NVIDIA GPUs, half precision.
- `splash`: JAX's Pallas kernel for TPU; interpreted on a CPU, which is slow and meant for tests.

Axes: B rows, T tokens, S keys, P prompts, N query heads, K key-value heads, H head width.
"""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as splash
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as splash_mask
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from scaling import compute, sharding
from scaling.errors import BadInput

LANES = 128  # splash cuts rows in blocks of a multiple of this
KEPT = 'attention'  # what splash keeps for its backward pass, by the name that remat knows
CUDNN = 'dot_product_attention_fwd_wrapper'  # JAX's primitive, whose outputs remat keeps likewise
KEY = 'config.mechanics.attention'


def kept(primitive, *shapes, **params) -> bool:
  """A policy of jax.checkpoint: keeps what the kernels' own backward passes need of the forward
  one, so that none is run again."""
  named = jax.checkpoint_policies.save_only_these_names(KEPT)
  return primitive.name == CUDNN or named(primitive, *shapes, **params)


def attend(q_BxTxNxH, parts, multiply=False):
  """softmax(q k^T / sqrt(H)) v over several parts of keys and values, never concatenated.

  A part is (k [P,K,H,S], v [P,K,S,H], mask, broadcastable to [P, B/P, T, S]); each of its P rows
  is shared by B / P consecutive rows of q. Scores and softmax are float32. Each part's exponentials
  are of its scores less the greatest of all parts, and their sums are added up.

  multiply: see `multiplies`; it is done where each row has its own keys, for one query a head.
  """
  B, T, N, H = q_BxTxNxH.shape
  K = parts[0][0].shape[1]
  by_hand = [multiply and T == 1 and N == K and len(k) == B for k, _, _ in parts]
  scores = []
  for hand, (k, _, mask) in zip(by_hand, parts, strict=True):
    P, S = len(k), k.shape[-1]
    if hand:
      q = q_BxTxNxH.astype(jnp.float32).reshape(B, K, H, 1)
      s = jnp.sum(q * k, axis=2).reshape(B, 1, 1, K, 1, S)
    else:
      s = jnp.einsum(
        'pbtkgh,pkhs->pkgbts',
        q_BxTxNxH.reshape(P, B // P, T, K, N // K, H),
        k,
        preferred_element_type=jnp.float32,
      ).transpose(0, 3, 4, 1, 2, 5)
    s = jnp.where(mask[:, :, :, None, None], s * H**-0.5, -1e30)
    scores.append(s.reshape(B, T, K, N // K, S))
  top = functools.reduce(jnp.maximum, (jnp.max(s, axis=-1, keepdims=True) for s in scores))
  out = total = 0
  for hand, (_, v, _), s in zip(by_hand, parts, scores, strict=True):
    weights = jnp.exp(s - top)
    total += jnp.sum(weights, axis=-1, keepdims=True)
    P, S = len(v), v.shape[-2]
    if hand:
      part = jnp.sum(weights.reshape(B, K, S, 1) * v, axis=2)
    else:
      part = jnp.einsum(
        'pbtkgs,pksh->pbtkgh',
        weights.reshape(P, B // P, T, K, N // K, S).astype(v.dtype),
        v,
      ).astype(jnp.float32)
    out += part.reshape(B, T, K, N // K, H)
  return (out / total).reshape(B, T, N, H).astype(q_BxTxNxH.dtype)


def multiplies(mesh: Mesh | None) -> bool:
  """Whether a single query attends to its row's own keys by multiplying and adding up.

  That is a product of a vector and a matrix for each row and head, for which XLA on CPUs makes
  slower loops than for the same thing written out. Elsewhere it is left a product.
  """
  platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
  return platform == 'cpu'


def plain(q, k, v, segment_ids, parts=1):
  """`self_attention` in jnp, heads before tokens: then no product transposes the scores.

  The queries go in so many parts, each over the keys up to its last query alone.
  """
  (B, T, N, H), K, n = q.shape, k.shape[2], q.shape[1] // parts
  q = q.reshape(B, T, K, N // K, H).transpose(0, 2, 3, 1, 4)
  # float32, and cast in each part: their gradients are then added up over the parts in float32.
  k, v = (x.swapaxes(1, 2).astype(jnp.float32) for x in (k, v))
  keys = lambda x, stop: x[..., :stop, :].astype(q.dtype)
  cut = lambda first, stop: None if segment_ids is None else segment_ids[:, first:stop]
  out = []
  for first, stop in ((i * n, (i + 1) * n) for i in range(parts)):
    mask = _visible(cut(first, stop), cut(0, stop), first, n, stop)[:, None, None]
    out.append(_mix(q[..., first:stop, :], keys(k, stop), keys(v, stop), mask))
  return jnp.concatenate(out, axis=-2).transpose(0, 3, 1, 2, 4).reshape(B, T, N, H)


@jax.custom_vjp
def _mix(q, k, v, mask):
  """w v with w = softmax(q k^T / sqrt(H)) where the mask is true: [B, K, G, T, H], G = N / K.

  q: [B, K, G, T, H]; k, v: [B, K, S, H]. Of all that is [T, S] w alone is kept. The gradient by
  the scores is w (dw - sum(w dw)), where sum(w dw) = out . dout (2205.14135): no sum over S.
  """
  return _mix_fwd(q, k, v, mask)[0]


def _mix_fwd(q, k, v, mask):
  scores = jnp.einsum('bkgth,bksh->bkgts', q, k, preferred_element_type=jnp.float32)
  scores = jnp.where(mask, scores * q.shape[-1] ** -0.5, -1e30)
  weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
  out = jnp.einsum('bkgts,bksh->bkgth', weights, v)
  return out, (q, k, v, weights, out)


def _mix_bwd(saved, d):
  q, k, v, weights, out = saved
  dw = jnp.einsum('bkgth,bksh->bkgts', d, v, preferred_element_type=jnp.float32)
  sums = jnp.sum(out.astype(jnp.float32) * d, axis=-1, keepdims=True)
  ds = (weights * (dw - sums) * q.shape[-1] ** -0.5).astype(v.dtype)
  dq = jnp.einsum('bkgts,bksh->bkgth', ds, k)
  # Transposed: so it is q and d, not the larger ds and weights, that XLA on CPUs copies for it.
  dk = jnp.einsum('bkgth,bkgts->bkhs', q, ds).swapaxes(2, 3)
  dv = jnp.einsum('bkgth,bkgts->bkhs', d, weights).swapaxes(2, 3)
  return dq, dk, dv, None


_mix.defvjp(_mix_fwd, _mix_bwd)


def behind_prefix(q, k, v, own, prefix_k, prefix_v, valid):
  """`self_attention` of rows that go on from a shared prefix: [B, T, N, H]. Gradients go through
  both.

  q: [B, T, N, H]; k, v: [B, T, K, H]; own: bool [B, T, T] of the row's own keys; prefix_k
  [P, K, H, S], prefix_v [P, K, S, H], each shared by B / P consecutive rows; valid: bool [P, S].
  """
  (B, T, N, H), K, P = q.shape, k.shape[2], len(prefix_k)
  q = q.reshape(P, B // P, T, K, N // K, H).transpose(0, 3, 1, 4, 2, 5)
  k, v = (x.reshape(P, B // P, T, K, H).transpose(0, 3, 1, 2, 4) for x in (k, v))
  masks = own.reshape(-1, 1, B // P, 1, T, T), valid[:, None, None, None, None]
  out = _mix_both(q, (k, prefix_k.swapaxes(2, 3)), (v, prefix_v), masks)
  return out.transpose(0, 2, 4, 1, 3, 5).reshape(B, T, N, H)


OWN, SHARED = 'pkbsh', 'pksh'  # keys and values of each row, and of its prefix


@jax.custom_vjp
def _mix_both(q_PxKxRxGxTxH, k, v, masks):
  """`_mix` over two parts of the keys (OWN, SHARED), whose weights add up to 1 together."""
  return _mix_both_fwd(q_PxKxRxGxTxH, k, v, masks)[0]


def _mix_both_fwd(q, k, v, masks):
  scores = []
  for keys, mask, name in zip(k, masks, (OWN, SHARED), strict=True):
    s = jnp.einsum(f'pkbgth,{name}->pkbgts', q, keys, preferred_element_type=jnp.float32)
    scores.append(jnp.where(mask, s * q.shape[-1] ** -0.5, -1e30))
  top = jnp.maximum(*(jnp.max(s, axis=-1, keepdims=True) for s in scores))
  weights = [jnp.exp(s - top) for s in scores]
  total = sum(jnp.sum(w, axis=-1, keepdims=True) for w in weights)
  weights = [(w / total).astype(q.dtype) for w in weights]
  parts = zip(weights, v, (OWN, SHARED), strict=True)
  out = sum(jnp.einsum(f'pkbgts,{name}->pkbgth', w, values) for w, values, name in parts)
  return out, (q, k, v, weights, out)


def _mix_both_bwd(saved, d):
  q, k, v, weights, out = saved
  sums = jnp.sum(out.astype(jnp.float32) * d, axis=-1, keepdims=True)
  dq, dk, dv = 0, [], []
  for keys, values, w, name in zip(k, v, weights, (OWN, SHARED), strict=True):
    dw = jnp.einsum(f'pkbgth,{name}->pkbgts', d, values, preferred_element_type=jnp.float32)
    ds = (w * (dw - sums) * q.shape[-1] ** -0.5).astype(q.dtype)
    dq += jnp.einsum(f'pkbgts,{name}->pkbgth', ds, keys)
    turned = name.replace('sh', 'hs')  # as in `_mix`
    dk.append(jnp.einsum(f'pkbgth,pkbgts->{turned}', q, ds).swapaxes(-1, -2))
    dv.append(jnp.einsum(f'pkbgth,pkbgts->{turned}', d, w).swapaxes(-1, -2))
  return dq, tuple(dk), tuple(dv), None


_mix_both.defvjp(_mix_both_fwd, _mix_both_bwd)


def self_attention(
  q: jax.Array,
  k: jax.Array,
  v: jax.Array,
  segment_ids: jax.Array | None,
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
    segment_ids: int32 [B, T]; None: each row is one sequence, and what pads it is behind it.
    implementation: 'plain', 'cudnn' or 'splash'; see `resolve`.
    mesh: where it runs; None: on JAX's default device.

  Raises:
    BadInput: the implementation cannot run on these devices or in this precision.
  """
  if implementation == 'plain':
    whole = mesh is None or mesh.shape['sequence'] == 1
    return plain(q, k, v, segment_ids, compute.query_parts(q.shape[1]) if whole else 1)
  platform = jax.default_backend() if mesh is None else mesh.devices.flat[0].platform
  if reason := misfit(implementation, platform, q.dtype, q.shape[-1]):
    raise BadInput(reason)
  mesh = sharding.make_mesh(devices=jax.local_devices()) if mesh is None else mesh
  T = q.shape[1]
  _, sequence, _, _ = sharding.ACTIVATIONS['queries']
  spare = -T % (LANES * mesh.shape[sequence])
  pad = lambda x: jnp.pad(x, ((0, 0), (0, spare)) + ((0, 0),) * (x.ndim - 2))
  kernel = _cudnn if implementation == 'cudnn' else _splash
  segments = None if segment_ids is None else pad(segment_ids)
  return kernel(pad(q), pad(k), pad(v), segments, mesh)[:, :T]


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


def _visible(queries_BxT, keys_BxS, first, T, S):
  """Mask [B, T, S], or [1, T, S] without segments: the key is of the query's segment and not after
  it.

  first: the place in the row of the first query; keys start at 0.
  """
  causal = first + jnp.arange(T)[:, None] >= jnp.arange(S)
  if queries_BxT is None:
    return causal[None]
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
    ids = None if segments is None else splash.SegmentIds(segments, key_segments)
    return jax.vmap(kernel)(q, k, v, ids).swapaxes(1, 2)

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

  Segments go in as a mask, of the matmuls' precision and without heads: [B, 1, T, T], which costs
  it about 6 % of a step of a 1B model at 2048 tokens. Blocks above the diagonal are skipped where
  the mesh does not split the rows' tokens.
  """
  queries, keys = _specs(mesh, q, k)
  _, sequence, _, _ = queries
  whole = mesh.shape[sequence] == 1

  def local(q, k, v, segments, key_segments):
    mask = None
    if segments is not None or not whole:
      first = 0 if whole else jax.lax.axis_index(sequence) * q.shape[1]
      mask = _visible(segments, key_segments, first, q.shape[1], k.shape[1])[:, None]
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
