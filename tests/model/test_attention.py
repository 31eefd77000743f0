"""Attention: the plain one against loops in NumPy, and the kernels against the plain one."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling import sharding, topology
from scaling.errors import BadInput
from scaling.model import attention, transformer

CLOSE = {'float32': 3e-6, 'bfloat16': 1.5e-2}  # of the largest value; a bfloat16 carries 4e-3
CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32
)
MESHES = [
  {'data': 2, 'tensor': 2},
  {'fsdp': 2, 'sequence': 2},
  {'data': 2, 'tensor': 2, 'sequence': 2},
  {'data': 8},  # eight do not divide four rows: they stay whole
  {'tensor': 4},  # four do not divide two key-value heads: heads stay whole
]


def inputs(T, N, K, dtype, B=4, H=16):
  """q, k, v, packed segments that end in padding, and weights of the outputs in a loss."""
  rng = np.random.default_rng(0)
  q, k, v, weights = (jnp.asarray(rng.normal(size=(B, T, n, H)), dtype) for n in (N, K, K, N))
  segments = np.sort(rng.integers(1, 5, (B, T)), axis=1).astype(np.int32)
  segments[:, T - T // 5 :] = 0
  return q, k, v, segments, weights


def results(args, implementation, mesh=None):
  """The output, and the gradients by q, k and v of its weighted sum."""
  q, k, v, segments, weights = args

  def loss(q, k, v):
    out = attention.self_attention(q, k, v, segments, implementation, mesh)
    return jnp.sum((out * weights).astype(jnp.float32)), out

  (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
  assert out.dtype == q.dtype and out.shape == q.shape
  return [np.asarray(x, np.float32) for x in (out, *grads)]


def part(k, v, mask):
  """One part for `attend` of keys and values [B, S, K, H]."""
  return k.transpose(0, 2, 3, 1), v.swapaxes(1, 2), mask


def gap(found, expected):
  """The largest difference, relative to the largest value, of any of the arrays."""
  return max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(found, expected, strict=True))


@functools.cache
def case(N, K, dtype, T=300):
  args = inputs(T, N, K, dtype)
  return args, results(args, 'plain')


def in_numpy(q, k, v, segments):
  """Row by row, head by head, token by token, float64."""
  q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
  out = np.zeros(q.shape)
  for b, t, n in np.ndindex(q.shape[:3]):
    shared = n // (q.shape[2] // k.shape[2])
    seen = [s for s in range(t + 1) if segments[b, s] == segments[b, t]]
    score = np.array([q[b, t, n] @ k[b, s, shared] for s in seen]) / np.sqrt(q.shape[3])
    weight = np.exp(score - score.max())
    out[b, t, n] = weight / weight.sum() @ v[b, seen, shared]
  return out


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_plain_attention_is_the_formula(data):
  shapes = [
    (1, 1, 1, 1, 2),
    (2, 7, 1, 3, 4),
    (1, 8, 2, 1, 6),
    (2, 5, 3, 2, 2),
  ]  # few: each compiles
  B, T, K, G, H = data.draw(st.sampled_from(shapes))
  segments = np.array(data.draw(st.lists(st.integers(0, 2), min_size=B * T, max_size=B * T)))
  segments = segments.reshape(B, T).astype(np.int32)
  rng = np.random.default_rng(data.draw(st.integers(0, 99)))
  q, k, v = (rng.normal(0, 3, (B, T, n, H)).astype(np.float32) for n in (K * G, K, K))
  out = attention.self_attention(q, k, v, segments)
  np.testing.assert_allclose(out, in_numpy(q, k, v, segments), atol=2e-5)


@pytest.mark.parametrize('dtype', CLOSE)
def test_plain_attention_is_one_part_to_attend_to_and_so_are_its_gradients(dtype):
  """`attend` is differentiated by JAX alone; the softmax of the plain one has its own rule."""
  args = q, k, v, segments, weights = inputs(9, 4, 2, dtype)
  same = segments[:, :, None] == segments[:, None, :]
  mask = (np.tril(np.ones((9, 9), bool)) & same)[:, None]

  def loss(q, k, v):
    out = attention.attend(q, [part(k, v, mask)])
    return jnp.sum((out * weights).astype(jnp.float32)), out

  (_, out), grads = jax.jit(jax.value_and_grad(loss, (0, 1, 2), has_aux=True))(q, k, v)
  expected = [np.asarray(x, np.float32) for x in (out, *grads)]
  assert gap(results(args, 'plain'), expected) < CLOSE[dtype]


@pytest.mark.parametrize('packed', [True, False])
def test_queries_in_parts_attend_as_in_one_and_so_do_their_gradients(packed):
  q, k, v, segments, weights = inputs(16, 4, 2, 'float32')
  segments = segments if packed else None

  def of(parts):
    loss = lambda q, k, v: jnp.sum(attention.plain(q, k, v, segments, parts) * weights)
    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(q, k, v)

  expected = jax.tree.leaves(of(1))
  for parts in (2, 4, 16):
    assert gap(jax.tree.leaves(of(parts)), expected) < CLOSE['float32']


def test_keys_in_parts_are_attended_to_as_one():
  """The last part is shared by two consecutive rows each."""
  q, k, v, _, _ = inputs(6, 4, 2, 'float32')
  _, shared_k, shared_v, _, _ = inputs(5, 4, 2, 'float32', B=2)
  seen = np.random.default_rng(1).random((4, 6, 8)) < 0.7
  seen[:, :, 0] = True  # a token has something to see
  seen_shared = np.random.default_rng(2).random((2, 5)) < 0.7
  both = lambda x, shared: jnp.concatenate([x, jnp.repeat(shared, 2, axis=0)], axis=1)
  whole = jnp.concatenate(
    [seen[..., :6], jnp.repeat(seen_shared, 2, axis=0)[:, None].repeat(6, axis=1)], axis=-1
  )
  expected = attention.attend(q, [part(both(k, shared_k), both(v, shared_v), whole[:, None])])
  found = attention.attend(
    q,
    [
      part(k[:, :2], v[:, :2], seen[:, None, :, :2]),
      part(k[:, 2:], v[:, 2:], seen[:, None, :, 2:6]),
      part(shared_k, shared_v, seen_shared[:, None, None]),
    ],
  )
  np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize('dtype', CLOSE)
@pytest.mark.parametrize('heads', [(4, 4), (4, 2), (4, 1)], ids=str)
def test_splash_equals_plain_and_so_do_its_gradients(heads, dtype):
  args, expected = case(*heads, dtype)
  assert gap(results(args, 'splash'), expected) < CLOSE[dtype]


@pytest.mark.parametrize('axes', MESHES, ids=str)
def test_splash_over_a_mesh_equals_plain_on_one_device(axes):
  T = 700 if 'sequence' in axes else 300  # three blocks for each part of a row
  args, expected = case(4, 2, 'float32', T)
  mesh = sharding.make_mesh(**axes)
  assert gap(results(args, 'splash', mesh), expected) < CLOSE['float32']


@pytest.mark.parametrize('axes', [{}, *MESHES[:3]], ids=str)
def test_cudnn_is_asked_for_the_same_function(axes, monkeypatch):
  """XLA's own attention stands in for the kernel: the mask, the scale and the mesh are tested."""
  asked, xla = [], jax.nn.dot_product_attention

  def stand_in(*args, implementation, **options):
    asked.append(implementation)
    return xla(*args, implementation='xla', **options)

  monkeypatch.setattr(jax.nn, 'dot_product_attention', stand_in)
  monkeypatch.setattr(attention, 'misfit', lambda *_: '')
  args, expected = case(4, 2, 'float32')
  mesh = sharding.make_mesh(**axes)
  assert gap(results(args, 'cudnn', mesh), expected) < CLOSE['float32']
  assert asked == ['cudnn']


@pytest.mark.parametrize('remat, forward_passes', [('none', 1), ('dots', 1), ('block', 2)])
def test_dots_keeps_what_the_backward_kernel_of_cudnn_needs(remat, forward_passes, monkeypatch):
  """Traced only. JAX's primitive is known by its name: this says when it has another."""
  from jax._src.cudnn import fused_attention_stablehlo as kernel

  monkeypatch.setattr(kernel, 'check_cudnn_version', lambda: 91000)
  monkeypatch.setattr(kernel, 'check_compute_capability', lambda *_: True)
  monkeypatch.setattr(attention, 'misfit', lambda *_: '')
  cfg = transformer.ModelConfig(**{**vars(CFG), 'dtype': 'bfloat16', 'head_dim': 64})
  how, mesh = transformer.Mechanics(attention='cudnn', remat=remat), sharding.make_mesh()
  tokens = jnp.zeros((2, 128), jnp.int32)
  total = lambda params: transformer.apply(cfg, params, tokens, tokens, how=how, mesh=mesh)[0].sum()
  found = str(jax.make_jaxpr(jax.grad(total))(transformer.form(cfg)))
  assert found.count(f'{attention.CUDNN}[') == forward_passes
  assert found.count('dot_product_attention_bwd_wrapper[') == 1


def test_cudnn_on_the_gpu_equals_plain_and_so_do_its_gradients():
  """In a process of its own: this one was told to see CPUs alone."""
  plugins = [f'jax_cuda{version}_plugin' for version in (12, 13)]
  if not Path('/dev/nvidia0').exists() or not any(map(importlib.util.find_spec, plugins)):
    pytest.skip("cuDNN's attention needs an NVIDIA GPU and JAX's CUDA plugin: not on this machine")
  program = (
    'from tests.model.test_attention import *\n'
    'for heads in ((4, 4), (4, 2), (4, 1)):\n'
    "  args = inputs(300, *heads, 'bfloat16', H=64)\n"
    "  print(gap(results(args, 'cudnn'), results(args, 'plain')))\n"
  )
  done = subprocess.run(
    [sys.executable, '-c', program],
    cwd=Path(__file__).parents[2],
    env={**os.environ, 'JAX_PLATFORMS': 'cuda', 'XLA_FLAGS': ''},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  gaps = [float(line) for line in done.stdout.split()]
  assert len(gaps) == 3 and max(gaps) < 2 * CLOSE['bfloat16']


@pytest.mark.peers
@pytest.mark.parametrize('axes', [{}, *MESHES[:3]], ids=str)
def test_splash_compiles_for_a_tpu(axes):
  """Forward and backward, by libtpu's own compiler, and without room for the scores."""
  mesh = sharding.make_mesh(**axes, devices=topology.describe('v5e:2x4').devices)
  shapes = {'queries': (4, 1024, 4, 64), 'keys': (4, 1024, 2, 64)}
  q, k = (
    jax.ShapeDtypeStruct(
      shape,
      jnp.bfloat16,
      sharding=jax.sharding.NamedSharding(mesh, sharding.spec(mesh, shape, name)),
    )
    for name, shape in shapes.items()
  )
  segments = jax.ShapeDtypeStruct((4, 1024), jnp.int32, sharding=sharding.batch(mesh))

  def loss(q, k, v, segments):
    out = attention.self_attention(q, k, v, segments, 'splash', mesh)
    return jnp.sum(out.astype(jnp.float32) ** 2)

  program = jax.jit(jax.grad(loss, (0, 1, 2))).lower(q, k, k, segments).compile()
  assert program.as_text().count('tpu_custom_call') == 3  # forward, dq, dk and dv
  scores = 4 * 4 * 1024**2 * 4 / mesh.size
  assert program.memory_analysis().temp_size_in_bytes < scores / 4


def test_a_row_split_over_the_mesh_has_its_keys_gathered_and_nothing_else():
  (q, k, v, segments, _), (expected, *_) = case(4, 2, 'float32')
  mesh = sharding.make_mesh(fsdp=2, sequence=2)
  place = functools.partial(sharding.constrain, mesh)
  split = jax.sharding.NamedSharding(mesh, sharding.ACTIVATIONS['queries'])

  def attend(q, k, v, segments):
    return attention.self_attention(
      place(q, 'queries'), place(k, 'keys'), place(v, 'keys'), segments, 'plain', mesh
    )

  layout = {'in_shardings': (split,) * 3 + (sharding.batch(mesh),), 'out_shardings': split}
  program = jax.jit(attend, **layout).lower(q, k, v, segments).compile()
  gathered = re.findall(r'= \w+\[([\d,]*)\]\S* all-gather\(', program.as_text())
  assert sorted(gathered) == ['2,300', '2,300,2,16', '2,300,2,16']  # segments, keys, values
  for kind in ('all-reduce', 'all-to-all', 'collective-permute', 'reduce-scatter'):
    assert f' {kind}(' not in program.as_text()
  found = np.asarray(jax.jit(attend, **layout)(q, k, v, segments))
  assert gap([found], [expected]) < CLOSE['float32']


@pytest.mark.parametrize(
  'platform, dtype, head_dim, expected',
  [
    ('cpu', 'float32', 8, 'plain'),
    ('cpu', 'bfloat16', 8, 'plain'),
    ('tpu', 'float32', 8, 'splash'),
    ('tpu', 'bfloat16', 256, 'splash'),
    ('gpu', 'float32', 64, 'plain'),
    ('gpu', 'bfloat16', 64, 'cudnn'),
    ('gpu', 'bfloat16', 128, 'cudnn'),
    ('gpu', 'bfloat16', 256, 'plain'),
    ('gpu', 'bfloat16', 12, 'plain'),
  ],
)
def test_auto_is_the_fastest_that_runs(platform, dtype, head_dim, expected):
  cfg = transformer.ModelConfig(**{**vars(CFG), 'dtype': dtype, 'head_dim': head_dim})
  assert attention.resolve('auto', platform, cfg) == expected
  assert attention.resolve(expected, platform, cfg) == expected  # and may be named


@pytest.mark.parametrize(
  'implementation, platform, changes, words',
  [
    ('cudnn', 'gpu', {}, ['config.model.dtype is float32', 'bfloat16']),
    ('cudnn', 'gpu', {'dtype': 'bfloat16', 'head_dim': 12}, ['multiples of 8', '12']),
    ('cudnn', 'gpu', {'dtype': 'bfloat16', 'head_dim': 264}, ['up to 256', '264']),
    ('cudnn', 'cpu', {'dtype': 'bfloat16'}, ['for GPUs', 'on a cpu', "'plain'"]),
    ('splash', 'gpu', {}, ['for TPUs', 'on a gpu', "'cudnn'"]),
    ('flash', 'cpu', {}, ["'flash'", 'auto, plain, cudnn or splash']),
  ],
)
def test_what_cannot_run_is_one_line_that_names_the_key(implementation, platform, changes, words):
  cfg = transformer.ModelConfig(**{**vars(CFG), **changes})
  with pytest.raises(BadInput) as error:
    attention.resolve(implementation, platform, cfg)
  assert str(error.value).startswith('config.mechanics.attention is ')
  assert '\n' not in str(error.value)
  assert all(word in str(error.value) for word in words)


def test_a_kernel_that_cannot_run_is_refused_where_it_is_called():
  q, k, v, segments, _ = inputs(9, 4, 2, 'bfloat16')
  with pytest.raises(BadInput, match=r"^config.mechanics.attention is 'cudnn', .* on a cpu "):
    attention.self_attention(q, k, v, segments, 'cudnn')
