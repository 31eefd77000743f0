"""The model against a plain NumPy writing of the same architecture, and its contracts."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling.errors import BadInput
from scaling.model import transformer

CFG = transformer.ModelConfig(
  vocab_size=16, d_model=16, n_layers=2, n_heads=4, n_kv_heads=2, head_dim=8, d_ff=32
)


@functools.lru_cache
def jitted(cfg):
  return jax.jit(functools.partial(transformer.apply, cfg))


@functools.lru_cache
def params_of(cfg):
  """Noise for every parameter, biases and scales of norms too; the same wherever shapes agree."""

  def noise(path, leaf):
    x = np.random.default_rng(0).normal(0, 0.25, leaf.shape)
    return np.float32(x + path[-1].key.endswith('norm'))

  shapes = jax.eval_shape(functools.partial(transformer.init, cfg), jax.random.key(0))
  return jax.tree_util.tree_map_with_path(noise, shapes)


def random_tokens(rows, length, seed=0):
  return np.random.default_rng(seed).integers(0, CFG.vocab_size, (rows, length), dtype=np.int32)


def places(tokens):
  return np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int32), tokens.shape)


def forward(cfg, params, tokens, segment_ids=None):
  return np.asarray(jitted(cfg)(params, tokens, places(tokens), segment_ids)[0])


def in_numpy(cfg, params, tokens):
  """One sequence [T], token by token, head by head, float64: the logits [T, V]."""
  params = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
  norm = lambda x, scale: x / np.sqrt(np.mean(x**2) + cfg.norm_eps) * scale

  def rotate(x, place):
    pairs = x[: cfg.head_dim // 2] + 1j * x[cfg.head_dim // 2 :]
    frequency = cfg.rope_theta ** (-2 * np.arange(cfg.head_dim // 2) / cfg.head_dim)
    pairs = pairs * np.exp(1j * place * frequency)
    return np.concatenate([pairs.real, pairs.imag])

  stream = [params['embed'][token] for token in tokens]
  for layer in range(cfg.n_layers):
    w = {name: stack[layer] for name, stack in params['blocks'].items()}
    normed = [norm(x, w['attention_norm']) for x in stream]

    def heads(name, count, place, w=w, normed=normed):
      out = [normed[place] @ w['w' + name][:, head] for head in range(count)]
      if cfg.qkv_bias:
        out = [x + w['b' + name][head] for head, x in enumerate(out)]
      if cfg.qk_norm and name != 'v':
        out = [norm(x, w[name + '_norm']) for x in out]
      return out if name == 'v' else [rotate(x, place) for x in out]

    q, k, v = (
      [heads(name, count, t) for t in range(len(tokens))]
      for name, count in (('q', cfg.n_heads), ('k', cfg.n_kv_heads), ('v', cfg.n_kv_heads))
    )
    for t in range(len(tokens)):
      for head in range(cfg.n_heads):
        shared = head // (cfg.n_heads // cfg.n_kv_heads)
        score = [q[t][head] @ k[s][shared] / np.sqrt(cfg.head_dim) for s in range(t + 1)]
        weight = np.exp(score) / np.sum(np.exp(score))
        mixed = sum(weight[s] * v[s][shared] for s in range(t + 1))
        stream[t] = stream[t] + mixed @ w['wo'][head]
    for t, x in enumerate(stream):
      x = norm(x, w['mlp_norm'])
      gate = x @ w['w_gate']
      stream[t] = stream[t] + (gate / (1 + np.exp(-gate)) * (x @ w['w_up'])) @ w['w_down']
  unembed = params['embed'].T if cfg.tied_embeddings else params['unembed']
  return np.array([norm(x, params['final_norm']) @ unembed for x in stream])


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'qk_norm': True, 'n_kv_heads': 4},
    {'qkv_bias': True, 'n_kv_heads': 1},
    {'tied_embeddings': False, 'rope_theta': 50.0},
  ],
  ids=str,
)
def test_logits_are_those_of_the_architecture(options):
  cfg = dataclasses.replace(CFG, **options)
  params, tokens = params_of(cfg), random_tokens(1, 9)
  expected = in_numpy(cfg, params, tokens[0])
  np.testing.assert_allclose(forward(cfg, params, tokens)[0], expected, rtol=1e-4, atol=1e-4)


def test_a_padded_vocabulary_has_the_same_logits_and_none_to_spare():
  params, tokens = params_of(CFG), random_tokens(1, 9)
  padded = dataclasses.replace(CFG, vocab_multiple=10)
  wide = params | {'embed': np.pad(params['embed'], ((0, 4), (0, 0)), constant_values=9.0)}
  logits = forward(padded, wide, tokens)
  assert logits.shape[-1] == padded.padded_vocab == 20
  np.testing.assert_allclose(logits[..., :16], forward(CFG, params, tokens), rtol=1e-6, atol=1e-6)
  assert (logits[..., 16:] == -1e30).all()


def test_a_product_with_a_matrix_has_the_gradients_of_autodiff():
  rng = np.random.default_rng(0)
  x, w, dy = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 5, 4), (4, 6), (3, 5, 6)))
  expected, pull = jax.vjp(jnp.matmul, x, w)
  found, own_pull = jax.vjp(transformer._times, x, w)
  np.testing.assert_array_equal(found, expected)
  for own, auto in zip(own_pull(dy), pull(dy), strict=True):
    np.testing.assert_allclose(own, auto, rtol=1e-5, atol=1e-5)


def test_adapters_are_added_to_their_matrices():
  """Merged by hand into the base, they give the same logits; fresh ones change nothing."""
  cfg = dataclasses.replace(CFG, lora_rank=2, lora_alpha=6.0)
  params, tokens = params_of(cfg), random_tokens(2, 9)
  merged = dict(params['blocks'])
  for name in transformer.adapted(cfg):
    a, b = merged.pop(f'{name}_a'), merged.pop(f'{name}_b')
    merged[name] = merged[name] + 3.0 * (a @ b).reshape(merged[name].shape)
  expected = forward(CFG, params | {'blocks': merged}, tokens)
  np.testing.assert_allclose(forward(cfg, params, tokens), expected, rtol=1e-4, atol=1e-4)
  fresh = transformer.init(cfg, jax.random.key(0))['blocks']
  for name, (rows, columns) in transformer.adapted(cfg).items():
    assert fresh[f'{name}_a'].shape == (2, rows, 2) and fresh[f'{name}_b'].shape == (2, 2, columns)
    assert fresh[f'{name}_a'].std() > 0 and (fresh[f'{name}_b'] == 0).all()


def test_scaled_rotary_frequencies_by_hand():
  """Original positions 8192 and theta 500,000: Llama 3.1. A pair with a wave shorter than 8192 / 4
  is kept, one longer than 8192 is slowed by 8, and between it is blended."""
  cfg = dataclasses.replace(
    CFG, head_dim=128, rope_theta=500_000.0, rope_scaling=[8.0, 1.0, 4.0, 8192.0]
  )
  plain = 500_000.0 ** -(np.arange(64) / 64)
  wave = 2 * np.pi / plain
  got = transformer.frequencies(cfg)
  assert got.dtype == np.float32
  np.testing.assert_allclose(got[wave < 2048], plain[wave < 2048], rtol=1e-6)
  np.testing.assert_allclose(got[wave > 8192], plain[wave > 8192] / 8, rtol=1e-6)
  (between,) = np.nonzero((wave > 2048) & (wave < 8192))
  for i in between:
    blend = (8192 / wave[i] - 1) / 3
    assert got[i] == pytest.approx(plain[i] * (blend + (1 - blend) / 8), rel=1e-5)
  assert len(between) > 3


PERTURBED = {  # every field, and another value for it
  'vocab_size': 17,
  'd_model': 18,
  'n_layers': 3,
  'n_heads': 2,
  'n_kv_heads': 1,
  'head_dim': 4,
  'd_ff': 33,
  'rope_theta': 20_000.0,
  'norm_eps': 1e-4,
  'qk_norm': True,
  'qkv_bias': True,
  'tied_embeddings': False,
  'dtype': 'bfloat16',
  'rope_scaling': (4.0, 1.0, 4.0, 8.0),
  'mup_base': 8,
  'lora_rank': 2,
  'lora_alpha': 8.0,
}


UNCHANGED = ('vocab_multiple', 'head')  # the second leaves no logits: see test_train_step
FIELDS = [field.name for field in dataclasses.fields(CFG) if field.name not in UNCHANGED]


@pytest.mark.parametrize('field', FIELDS)
def test_every_field_changes_the_logits(field):
  """Parameters common to both models agree: cut to the smaller shape, or padded with ones."""
  base_cfg = dataclasses.replace(CFG, lora_rank=2) if field == 'lora_alpha' else CFG
  cfg = dataclasses.replace(base_cfg, **{field: PERTURBED[field]})

  def fit(path, leaf):
    node = params_of(base_cfg)
    for key in path:
      node = node.get(key.key, {})
    if isinstance(node, dict):
      return leaf  # a parameter the base model has not
    out = np.ones(leaf.shape, np.float32)
    common = tuple(slice(min(a, b)) for a, b in zip(node.shape, leaf.shape, strict=True))
    out[common] = node[common]
    return out

  tokens = random_tokens(2, 9)
  base = forward(base_cfg, params_of(base_cfg), tokens)
  logits = forward(cfg, jax.tree_util.tree_map_with_path(fit, params_of(cfg)), tokens)
  if field == 'vocab_size':
    assert logits.shape[-1] == 17
  else:
    assert logits.dtype == np.float32
    assert np.abs(logits - base).max() > 1e-5


def test_a_token_sees_itself_and_what_came_before():
  tokens = random_tokens(1, 10)
  changed = tokens.copy()
  changed[0, 6] = (changed[0, 6] + 1) % CFG.vocab_size
  params = params_of(CFG)
  same = (forward(CFG, params, tokens) == forward(CFG, params, changed)).all(axis=-1)[0]
  assert same.tolist() == [True] * 6 + [False] * 4


def test_only_distances_between_positions_matter():
  tokens, params = random_tokens(1, 10), params_of(CFG)
  shifted, _ = jitted(CFG)(params, tokens, places(tokens) + 7, None)
  np.testing.assert_allclose(shifted, forward(CFG, params, tokens), atol=1e-4)
  stretched, _ = jitted(CFG)(params, tokens, places(tokens) * 2, None)
  assert np.abs(stretched - shifted).max() > 1e-2


def test_a_packed_segment_never_sees_another():
  segments = np.array([[1] * 4 + [2] * 5 + [3] * 2 + [0] * 3], np.int32)
  positions = np.array([[*range(4), *range(5), *range(2), *range(3)]], np.int32)
  tokens, params = random_tokens(1, 14), params_of(CFG)
  packed = np.asarray(jitted(CFG)(params, tokens, positions, segments)[0])
  for segment in (0, 1, 2, 3):
    there = segments == segment
    changed = np.where(there, (tokens + 5) % CFG.vocab_size, tokens)
    logits = np.asarray(jitted(CFG)(params, changed, positions, segments)[0])
    assert (logits[~there] == packed[~there]).all()  # to the bit
    assert (logits[there] != packed[there]).any(axis=-1).all()
    if segment:
      alone = forward(CFG, params, tokens[there][None])[0]
      np.testing.assert_allclose(packed[there], alone, atol=1e-5)


@pytest.mark.parametrize('laid', [lambda cache: cache, transformer.apart], ids=['stack', 'apart'])
def test_decoding_with_a_cache_equals_teacher_forcing(laid):
  tokens, params = random_tokens(3, 10), params_of(CFG)
  expected = forward(CFG, params, tokens)
  cache = laid(transformer.empty_cache(CFG, rows=3, slots=10))
  pieces = []
  for start, stop in [(0, 4), *((t, t + 1) for t in range(4, 10))]:  # a chunk, then token by token
    part = tokens[:, start:stop]
    logits, cache = jitted(CFG)(params, part, places(tokens)[:, start:stop], None, cache)
    pieces.append(logits)
  np.testing.assert_allclose(np.concatenate(pieces, axis=1), expected, atol=1e-5)
  assert cache.length == 10 and cache.valid.all()
  _, full = jitted(CFG)(params, tokens, places(tokens), None)  # a prefill's cache is the same one
  np.testing.assert_allclose(full.k, np.stack(cache.k), atol=1e-5)
  np.testing.assert_allclose(full.v, np.stack(cache.v), atol=1e-5)


def test_a_shared_prefix_equals_a_prefix_for_each_row():
  P, n, S, T = 2, 3, 6, 4
  prompts, lengths, params = random_tokens(P, S), np.array([6, 4]), params_of(CFG)
  real = (np.arange(S) < lengths[:, None]).astype(np.int32)
  _, shared = jitted(CFG)(params, prompts, places(prompts), real)
  each = lambda x: np.repeat(x, n, axis=0)
  _, unshared = jitted(CFG)(params, each(prompts), places(each(prompts)), each(real))
  shared, unshared = (transformer.empty_cache(CFG, P * n, T, c) for c in (shared, unshared))
  shared = transformer.apart(shared)  # and the other is a stack
  responses = random_tokens(P * n, T, seed=1)
  for t in range(T):
    step = (params, responses[:, t, None], (each(lengths) + t)[:, None], None)
    logits, shared = jitted(CFG)(*step, shared)
    expected, unshared = jitted(CFG)(*step, unshared)
    np.testing.assert_allclose(logits, expected, atol=1e-5)
  for row in range(P * n):
    whole = np.concatenate([prompts[row // n, : lengths[row // n]], responses[row]])[None]
    np.testing.assert_allclose(logits[row, 0], forward(CFG, params, whole)[0, -1], atol=1e-5)


def test_qk_norm_makes_attention_blind_to_the_scale_of_queries():
  cfg = dataclasses.replace(CFG, qk_norm=True, norm_eps=1e-12)
  tokens = random_tokens(1, 8)

  def moved(cfg):
    params = params_of(cfg)
    scaled = {**params, 'blocks': {**params['blocks'], 'wq': params['blocks']['wq'] * 3}}
    return np.abs(forward(cfg, scaled, tokens) - forward(cfg, params, tokens)).max()

  assert moved(cfg) < 1e-4 < 1e-2 < moved(CFG)


def test_an_untied_unembedding_set_to_the_embedding_is_the_tied_model():
  untied = dataclasses.replace(CFG, tied_embeddings=False)
  tokens, params = random_tokens(1, 8), params_of(CFG)
  logits = forward(untied, {**params, 'unembed': params['embed'].T}, tokens)
  np.testing.assert_array_equal(logits, forward(CFG, params, tokens))


@pytest.mark.parametrize(
  'change, words',
  [
    ({'n_kv_heads': 3}, ['n_heads (4)', 'n_kv_heads (3)', 'multiple']),
    ({'head_dim': 7}, ['head_dim (7)', 'even']),
    ({'d_ff': 0}, ['d_ff is 0', 'at least 1']),
    ({'dtype': 'float16'}, ["'float16'", 'bfloat16']),
  ],
)
def test_an_impossible_shape_is_one_line_that_says_what_is_possible(change, words):
  with pytest.raises(BadInput) as error:
    dataclasses.replace(CFG, **change)
  assert '\n' not in str(error.value)
  assert all(word in str(error.value) for word in words)


def test_initialisation_is_a_function_of_the_key():
  init = jax.jit(functools.partial(transformer.init, CFG))
  one = init(jax.random.key(0))
  jax.tree.map(np.testing.assert_array_equal, one, init(jax.random.key(0)))
  assert (one['embed'] != init(jax.random.key(1))['embed']).any()
  wq = one['blocks']['wq']
  assert (wq[0] != wq[1]).all()  # each layer has its own draw
  assert jnp.abs(wq).max() <= 3 * CFG.d_model**-0.5
  assert 0.7 < forward(CFG, one, random_tokens(4, 16)).std() < 1.4  # logits of unit scale
