"""Folders of transformers, read and written: against files of the safetensors library, against
matrices applied by hand, and, where torch is installed, against transformers itself."""

import dataclasses
import functools
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import deserialize
from safetensors.numpy import save_file

from scaling import sharding
from scaling.errors import BadInput
from scaling.model import hf, transformer
from scaling.model.presets import PRESETS, model_config

CFG = transformer.ModelConfig(
  vocab_size=13, d_model=12, n_layers=3, n_heads=4, n_kv_heads=2, head_dim=6, d_ff=20,
  tied_embeddings=False, qkv_bias=True, norm_eps=1e-5, rope_theta=5e4,
)  # fmt: skip
QWEN3 = dataclasses.replace(CFG, qkv_bias=False, qk_norm=True, tied_embeddings=True)
SMALL = {  # of transformers: the same in every family
  'hidden_size': 12, 'intermediate_size': 20, 'num_hidden_layers': 3, 'num_attention_heads': 4,
  'num_key_value_heads': 2, 'head_dim': 6, 'vocab_size': 13, 'rms_norm_eps': 1e-5,
}  # fmt: skip


def tensors_of(cfg, dtype=np.float32, seed=0):
  """Noise for every tensor of a model, named and shaped as the architectures have them."""
  D, N, K, H, F = cfg.d_model, cfg.n_heads, cfg.n_kv_heads, cfg.head_dim, cfg.d_ff
  shapes = {'model.embed_tokens.weight': (cfg.vocab_size, D), 'model.norm.weight': (D,)}
  if not cfg.tied_embeddings:
    shapes['lm_head.weight'] = (cfg.vocab_size, D)
  for i in range(cfg.n_layers):
    block = {
      'input_layernorm.weight': (D,),
      'self_attn.q_proj.weight': (N * H, D),
      'self_attn.k_proj.weight': (K * H, D),
      'self_attn.v_proj.weight': (K * H, D),
      'self_attn.o_proj.weight': (D, N * H),
      'post_attention_layernorm.weight': (D,),
      'mlp.gate_proj.weight': (F, D),
      'mlp.up_proj.weight': (F, D),
      'mlp.down_proj.weight': (D, F),
    }
    if cfg.qkv_bias:
      block |= {f'self_attn.{x}_proj.bias': (n * H,) for x, n in (('q', N), ('k', K), ('v', K))}
    if cfg.qk_norm:
      block |= {f'self_attn.{x}_norm.weight': (H,) for x in 'qk'}
    shapes |= {f'model.layers.{i}.{name}': shape for name, shape in block.items()}
  rng = np.random.default_rng(seed)
  return {name: rng.normal(0, 1, shape).astype(dtype) for name, shape in shapes.items()}


def write_config(folder, cfg, **changes):
  family = 'Qwen2' if cfg.qkv_bias else 'Qwen3' if cfg.qk_norm else 'Llama'
  config = SMALL | {
    'architectures': [f'{family}ForCausalLM'],
    'rope_theta': cfg.rope_theta,
    'tie_word_embeddings': cfg.tied_embeddings,
  }
  config = {k: v for k, v in (config | changes).items() if v != 'absent'}
  folder.mkdir(exist_ok=True)
  (folder / 'config.json').write_text(json.dumps(config))


def write(folder, cfg, tensors, parts=1):
  """A folder as transformers would leave it: one file, or several with an index."""
  write_config(folder, cfg)
  if parts == 1:
    save_file(tensors, folder / 'model.safetensors')
    return
  files = [f'model-{i + 1:05}-of-{parts:05}.safetensors' for i in range(parts)]
  places = {name: files[i % parts] for i, name in enumerate(tensors)}
  for file in files:
    save_file({name: x for name, x in tensors.items() if places[name] == file}, folder / file)
  (folder / 'model.safetensors.index.json').write_text(json.dumps({'weight_map': places}))


def read(folder):
  """Every tensor of a folder to the bit, (dtype, shape, bytes), by the safetensors library."""
  tensors = {}
  for path in sorted(folder.glob('*.safetensors')):
    for name, x in deserialize(path.read_bytes()):
      tensors[name] = x['dtype'], tuple(x['shape']), bytes(x['data'])
  return tensors


def same(a, b):
  jax.tree.map(np.testing.assert_array_equal, a, b)


@functools.lru_cache
def jitted(cfg):
  return jax.jit(functools.partial(transformer.apply, cfg))


def logits_of(cfg, params, tokens, positions):
  return np.asarray(jitted(cfg)(params, np.int32(tokens), np.int32(positions))[0])


def some_logits(cfg, params):
  return logits_of(cfg, params, np.arange(18).reshape(2, 9) % 13, np.tile(np.arange(9), (2, 1)))


# --- reading ---


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16, np.float16])
@pytest.mark.parametrize('parts', [1, 3])
@pytest.mark.parametrize('cfg', [CFG, QWEN3], ids=['biases', 'norms'])
def test_every_tensor_comes_to_its_place(tmp_path, cfg, parts, dtype):
  tensors = tensors_of(cfg, dtype)
  write(tmp_path, cfg, tensors, parts)
  assert hf.read_config(tmp_path) == cfg
  params = hf.load(tmp_path, cfg)
  assert all(x.dtype == np.float32 for x in jax.tree.leaves(params))
  got = {'model.embed_tokens.weight': params['embed'], 'model.norm.weight': params['final_norm']}
  if not cfg.tied_embeddings:
    got['lm_head.weight'] = params['unembed'].T
  for i in range(cfg.n_layers):
    block = {name: np.asarray(stack[i]) for name, stack in params['blocks'].items()}
    for name, ours in {
      'input_layernorm.weight': block['attention_norm'],
      'post_attention_layernorm.weight': block['mlp_norm'],
      'self_attn.o_proj.weight': block['wo'].reshape(-1, cfg.d_model).T,
      'mlp.gate_proj.weight': block['w_gate'].T,
      'mlp.up_proj.weight': block['w_up'].T,
      'mlp.down_proj.weight': block['w_down'].T,
      **{f'self_attn.{x}_proj.weight': block[f'w{x}'].reshape(cfg.d_model, -1).T for x in 'qkv'},
      **({f'self_attn.{x}_proj.bias': block[f'b{x}'].ravel() for x in 'qkv'} if cfg is CFG else {}),
      **({f'self_attn.{x}_norm.weight': block[f'{x}_norm'] for x in 'qk'} if cfg is QWEN3 else {}),
    }.items():
      got[f'model.layers.{i}.{name}'] = ours
  assert set(got) == set(tensors)
  for name, x in tensors.items():
    np.testing.assert_array_equal(got[name], x.astype(np.float32), err_msg=name)


def test_a_mesh_holds_what_one_device_does_and_each_reads_its_part(tmp_path, monkeypatch):
  cfg = dataclasses.replace(CFG, vocab_multiple=4)
  tensors = tensors_of(cfg)
  write(tmp_path, cfg, tensors, parts=2)
  alone = hf.load(tmp_path, cfg)
  assert alone['embed'].shape == (16, 12) and alone['unembed'].shape == (12, 16)
  assert (alone['embed'][13:] == 0).all() and (alone['unembed'][:, 13:] == 0).all()

  asked = []
  inner = hf._read
  monkeypatch.setattr(hf, '_read', lambda at, *a: asked.append((at, inner(at, *a))) or asked[-1][1])
  where = sharding.shardings(sharding.make_mesh(data=2, fsdp=2, tensor=2), transformer.form(cfg))
  shared = hf.load(tmp_path, cfg, where)
  same(shared, alone)
  assert jax.tree.map(lambda x: x.sharding, shared) == where
  largest = max(x.nbytes for x in tensors.values())
  assert max(part.nbytes for _, part in asked) < largest / 3  # a quarter of each, padded
  assert not any(isinstance(part, np.memmap) for _, part in asked)


def test_a_header_of_any_length_will_do(tmp_path):
  """Files of the first years are not padded: their data lie at odd bytes."""
  tensors = tensors_of(CFG)
  write(tmp_path, CFG, tensors)
  aligned = hf.load(tmp_path, CFG)
  path = tmp_path / 'model.safetensors'
  data = path.read_bytes()
  length = int.from_bytes(data[:8], 'little')
  path.write_bytes(
    (length + 3).to_bytes(8, 'little') + data[8 : 8 + length] + b'   ' + data[8 + length :]
  )
  same(hf.load(tmp_path, CFG), aligned)


def test_a_tied_head_may_be_stored_again_and_old_buffers_are_passed_over(tmp_path):
  tensors = tensors_of(QWEN3)
  write(tmp_path, QWEN3, tensors)
  expected = hf.load(tmp_path, QWEN3)
  again = {
    'lm_head.weight': tensors['model.embed_tokens.weight'],
    'model.layers.0.self_attn.rotary_emb.inv_freq': np.ones(3, np.float32),
  }
  write(tmp_path, QWEN3, tensors | again)
  same(hf.load(tmp_path, QWEN3), expected)
  again['lm_head.weight'] = again['lm_head.weight'].copy()
  again['lm_head.weight'][-1, -1] += 1
  write(tmp_path, QWEN3, tensors | again)
  with pytest.raises(BadInput, match=r'model.safetensors: tensor lm_head.weight is not .* tied'):
    hf.load(tmp_path, QWEN3)


# --- config.json ---

FACTORS = {
  'factor': 8.0, 'low_freq_factor': 1.0, 'high_freq_factor': 4.0,
  'original_max_position_embeddings': 8192,
}  # fmt: skip
ROPE = FACTORS | {'rope_type': 'llama3'}


@pytest.mark.parametrize(
  'changes',
  [
    {'rope_theta': 7e5, 'rope_scaling': ROPE},
    {'rope_theta': 'absent', 'rope_parameters': ROPE | {'rope_theta': 7e5}},
    {'rope_theta': 7e5, 'rope_scaling': {**FACTORS, 'type': 'llama3'}},
  ],
  ids=['old', 'new', 'oldest'],
)  # fmt: skip
def test_both_forms_of_rotary_positions(tmp_path, changes):
  write_config(tmp_path, CFG, **changes)
  cfg = hf.read_config(tmp_path)
  assert (cfg.rope_theta, cfg.rope_scaling) == (7e5, (8.0, 1.0, 4.0, 8192.0))


@pytest.mark.parametrize(
  'changes, fields',
  [
    ({'architectures': ['LlamaForCausalLM'], 'head_dim': 8}, {'head_dim': 8, 'qkv_bias': False}),
    ({'num_attention_heads': 6, 'head_dim': None}, {'head_dim': 2}),
    ({'num_attention_heads': 6, 'head_dim': 'absent'}, {'head_dim': 2}),
    ({'architectures': ['Qwen3ForCausalLM']}, {'qk_norm': True, 'qkv_bias': False}),
    ({'architectures': ['MistralForCausalLM'], 'sliding_window': None}, {'qkv_bias': False}),
    ({'num_key_value_heads': 'absent'}, {'n_kv_heads': 4}),
    ({'rope_theta': 'absent', 'rms_norm_eps': 'absent'}, {'rope_theta': 1e4, 'norm_eps': 1e-6}),
    ({'tie_word_embeddings': 'absent'}, {'tied_embeddings': False}),
    # a window that is there and not used, as in the public Qwen2.5
    ({'sliding_window': 4096, 'use_sliding_window': False}, {'qkv_bias': True}),
    ({'rope_parameters': {'rope_type': 'default', 'rope_theta': 3e4}}, {'rope_theta': 3e4}),
    ({'layer_types': ['full_attention'] * 3, 'attention_bias': False, 'pretraining_tp': 1}, {}),
  ],
  ids=str,
)
def test_what_config_json_leaves_out(tmp_path, changes, fields):
  write_config(tmp_path, CFG, **changes)
  cfg = hf.read_config(tmp_path)
  assert {key: getattr(cfg, key) for key in fields} == fields


@pytest.mark.parametrize(
  'changes, says',
  [
    ({'architectures': ['GPT2LMHeadModel']}, 'architectures .*GPT2LMHeadModel.*Qwen2ForCausalLM'),
    ({'architectures': 'absent'}, 'architectures is None: there are LlamaForCausalLM'),
    ({'attention_bias': True}, 'attention_bias is True: .* False'),
    ({'mlp_bias': True}, 'mlp_bias is True'),
    ({'hidden_act': 'gelu'}, "hidden_act is 'gelu': .* 'silu'"),
    ({'use_sliding_window': True}, 'use_sliding_window is True'),
    ({'architectures': ['MistralForCausalLM'], 'sliding_window': 4096}, 'sliding_window is 4096'),
    ({'layer_types': ['full_attention', 'sliding_attention']}, 'layer_types'),
    ({'pretraining_tp': 2}, 'pretraining_tp is 2'),
    ({'partial_rotary_factor': 0.5}, 'partial_rotary_factor is 0.5'),
    ({'quantization_config': {'quant_method': 'fp8'}}, 'quantization_config'),
    ({'rope_scaling': {'type': 'linear', 'factor': 2.0}}, "rope_scaling is of type 'linear'"),
    ({'rope_parameters': {'rope_type': 'yarn'}}, "rope_parameters is of type 'yarn'"),
    ({'rope_parameters': {'full_attention': {'rope_theta': 1.0}}}, 'rope_parameters is by kind'),
    ({'rope_parameters': {'partial_rotary_factor': 0.5}}, 'rope_parameters has partial_rotary'),
    ({'rope_scaling': {'rope_type': 'llama3', 'factor': 8.0}}, "low_freq_factor is None"),
    ({'hidden_size': 'absent'}, 'hidden_size is None: it must be a whole number'),
    ({'num_hidden_layers': '3'}, "num_hidden_layers is '3'"),
    ({'num_attention_heads': 0, 'head_dim': 'absent'}, 'num_attention_heads is 0'),
    ({'rms_norm_eps': 'small'}, "rms_norm_eps is 'small'"),
    ({'num_key_value_heads': 3}, r'model.n_heads \(4\) is not a multiple'),
    ({'architectures': ['Qwen3ForCausalLM'], 'head_dim': 'absent'}, 'head_dim is None'),
  ],
  ids=str,
)  # fmt: skip
def test_a_model_that_cannot_be_represented_is_one_line(tmp_path, changes, says):
  write_config(tmp_path, CFG)
  hf.read_config(tmp_path)
  write_config(tmp_path, CFG, **changes)
  with pytest.raises(BadInput, match=f'config.json: {says}') as error:
    hf.read_config(tmp_path)
  assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize('content', [None, b'{', b'\xff\xfe', b'[1]'])
def test_no_config_is_one_line(tmp_path, content):
  if content is not None:
    (tmp_path / 'config.json').write_bytes(content)
  with pytest.raises(BadInput, match=r'config.json: (cannot be read|not )') as error:
    hf.read_config(tmp_path)
  assert '\n' not in str(error.value)


# --- damage ---


def edit(path, change):
  path.write_bytes(change(path.read_bytes()))


def with_header(change):
  """An edit of a file's header as JSON, the data left as they are."""

  def apply(data):
    length = int.from_bytes(data[:8], 'little')
    header = json.dumps(change(json.loads(data[8 : 8 + length]))).encode()
    return len(header).to_bytes(8, 'little') + header + data[8 + length :]

  return apply


ONE, TWO = 'model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'
NORM, GATE = 'model.norm.weight', 'model.layers.1.mlp.gate_proj.weight'


@pytest.mark.parametrize(
  'damage, says',
  [
    (lambda f: (f / TWO).unlink(), f'{TWO}: missing, and .*index.json names it'),
    (lambda f: (f / hf.INDEX).unlink(), 'neither model.safetensors nor'),
    (lambda f: edit(f / hf.INDEX, lambda x: b'{}'), 'index.json: it has no weight_map'),
    (lambda f: edit(f / hf.INDEX, lambda x: x[:-5]), 'index.json: not JSON'),
    (lambda f: edit(f / TWO, lambda x: x[:-1]), f'{TWO}: cut short: tensor .* ends at byte'),
    (lambda f: edit(f / TWO, lambda x: x[:30]), f'{TWO}: its header'),
    (lambda f: edit(f / ONE, lambda x: b''), f'{ONE}: its header'),
    (lambda f: edit(f / ONE, lambda x: b'version https://git-lfs'), f'{ONE}: its header'),
    (lambda f: edit(f / ONE, lambda x: x[:9] + b'\xff' + x[10:]), f'{ONE}: its header'),
    (lambda f: edit(f / TWO, with_header(lambda h: list(h))), f'{TWO}: its header'),
    (
      lambda f: edit(f / TWO, with_header(lambda h: h | {NORM: h[NORM] | {'shape': [11]}})),
      f'{TWO}: its header',
    ),
    (
      lambda f: edit(f / TWO, with_header(lambda h: h | {NORM: h[NORM] | {'dtype': 'I32'}})),
      f'{TWO}: tensor {NORM} is stored as I32; known are F32, BF16, F16',
    ),
    (
      lambda f: edit(f / TWO, with_header(lambda h: {k: v for k, v in h.items() if k != NORM})),
      f'{TWO}: there is no tensor {NORM}, which model.safetensors.index.json',
    ),
  ],
)
def test_a_damaged_folder_is_one_line(tmp_path, damage, says):
  write(tmp_path, CFG, tensors_of(CFG), parts=2)
  hf.load(tmp_path, CFG)
  damage(tmp_path)
  with pytest.raises(BadInput, match=says) as error:
    hf.load(tmp_path, CFG)
  assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
  'change, says',
  [
    ({GATE: np.zeros((12, 20), np.float32)}, rf'{GATE} is \(12, 20\), expected \(20, 12\)'),
    ({GATE: None}, rf'there is no tensor {GATE} \(20, 12\)'),
    ({'model.layers.3.mlp.up_proj.weight': np.zeros(1, np.float32)}, 'layers.3.* is unexpected'),
    ({'model.layers.0.self_attn.q_norm.weight': np.ones(6, np.float32)}, 'q_norm.* is unexpected'),
  ],
)
def test_tensors_of_another_model_are_one_line(tmp_path, change, says):
  tensors = {k: v for k, v in (tensors_of(CFG) | change).items() if v is not None}
  write(tmp_path, CFG, tensors)
  with pytest.raises(BadInput, match=says) as error:
    hf.load(tmp_path, CFG)
  assert '\n' not in str(error.value) and str(tmp_path) in str(error.value)


# --- writing ---


@pytest.mark.parametrize('dtype', [np.float32, jnp.bfloat16, np.float16])
@pytest.mark.parametrize('cfg', [CFG, QWEN3], ids=['biases', 'norms'])
def test_a_round_trip_is_exact(tmp_path, cfg, dtype):
  write(tmp_path / 'source', cfg, tensors_of(cfg, dtype))
  padded = dataclasses.replace(cfg, vocab_multiple=8)
  params = hf.load(tmp_path / 'source', padded)
  hf.save(tmp_path / 'copy', padded, params, dtype=str(np.dtype(dtype)))
  assert read(tmp_path / 'copy') == read(tmp_path / 'source')
  assert hf.read_config(tmp_path / 'copy') == cfg
  same(hf.load(tmp_path / 'copy', padded), params)


def test_a_large_model_is_several_files(tmp_path):
  tensors = tensors_of(CFG)
  write(tmp_path / 'source', CFG, tensors)
  params = hf.load(tmp_path / 'source', CFG)
  hf.save(tmp_path / 'copy', CFG, params, file_bytes=4000)
  files = sorted(path.name for path in (tmp_path / 'copy').glob('*.safetensors'))
  count = len(files)
  assert count > 3 and files[-1] == f'model-{count:05}-of-{count:05}.safetensors'
  index = json.loads((tmp_path / 'copy' / hf.INDEX).read_text())
  assert index['metadata']['total_size'] == sum(x.nbytes for x in tensors.values())
  assert set(index['weight_map']) == set(tensors)
  for file in files:
    held = [name for name, where in index['weight_map'].items() if where == file]
    assert held and sum(tensors[name].nbytes for name in held) <= 4000
  assert read(tmp_path / 'copy') == read(tmp_path / 'source')
  same(hf.load(tmp_path / 'copy', CFG), params)


def test_a_model_on_a_mesh_is_written_as_from_one_device(tmp_path):
  write(tmp_path / 'source', QWEN3, tensors_of(QWEN3))
  cfg = dataclasses.replace(QWEN3, vocab_multiple=4)
  mesh = sharding.make_mesh(data=2, fsdp=2, tensor=2)
  params = hf.load(tmp_path / 'source', cfg, sharding.shardings(mesh, transformer.form(cfg)))
  hf.save(tmp_path / 'copy', cfg, params)
  assert read(tmp_path / 'copy') == read(tmp_path / 'source')


@pytest.mark.parametrize('name', PRESETS)
def test_the_config_of_every_preset_is_read_back(tmp_path, name):
  cfg = model_config(name, vocab_size=50)
  (tmp_path / 'config.json').write_text(json.dumps(hf._config(cfg, 'bfloat16')))
  assert hf.read_config(tmp_path) == cfg


def test_heads_that_do_not_divide_the_width(tmp_path):
  """LlamaConfig refuses these; Mistral's, the same model, does not."""
  cfg = dataclasses.replace(CFG, qkv_bias=False, n_heads=5, n_kv_heads=1)
  (tmp_path / 'config.json').write_text(json.dumps(hf._config(cfg, 'float32')))
  assert json.loads((tmp_path / 'config.json').read_text())['model_type'] == 'mistral'
  assert hf.read_config(tmp_path) == cfg


def noise(cfg, seed=0):
  """Parameters of which none is zero or one, adapters too."""
  leaves, tree = jax.tree.flatten(transformer.form(cfg))
  rng = np.random.default_rng(seed)
  return jax.tree.unflatten(tree, [jnp.float32(rng.normal(0, 0.4, x.shape)) for x in leaves])


def test_adapters_are_merged(tmp_path):
  cfg = dataclasses.replace(CFG, lora_rank=2, lora_alpha=3.0)
  params = noise(cfg)
  merged = hf.merge_lora(cfg, params)
  expected = some_logits(cfg, params)
  np.testing.assert_allclose(some_logits(CFG, merged), expected, atol=1e-4)
  bare = {k: v for k, v in params['blocks'].items() if not k.endswith(('_a', '_b'))}
  assert set(merged['blocks']) == set(bare)
  assert np.abs(some_logits(CFG, params | {'blocks': bare}) - expected).max() > 0.1
  hf.save(tmp_path / 'out', cfg, params)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6), hf.load(tmp_path / 'out', CFG), merged
  )
  same(hf.load(tmp_path / 'out', cfg), hf.load(tmp_path / 'out', CFG))  # none are read


def test_what_mup_multiplies_the_logits_by_is_written_too(tmp_path):
  cfg = dataclasses.replace(QWEN3, mup_base=4)
  params = noise(cfg)
  hf.save(tmp_path / 'out', cfg, params)
  read_back = hf.load(tmp_path / 'out', QWEN3)
  np.testing.assert_allclose(some_logits(QWEN3, read_back), some_logits(cfg, params), atol=1e-5)
  assert np.abs(some_logits(QWEN3, params) - some_logits(cfg, params)).max() > 0.1
  with pytest.raises(BadInput, match='mup_base is 4'):
    hf.load(tmp_path / 'out', cfg)


def test_a_model_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
  params = noise(CFG)
  inner, calls = hf._take, []

  def dies(*args):
    calls.append(args)
    if len(calls) == 9:
      raise KeyboardInterrupt
    return inner(*args)

  with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
    patch.setattr(hf, '_take', dies)
    hf.save(tmp_path / 'out', CFG, params, file_bytes=4000)
  assert not (tmp_path / 'out').exists()
  hf.save(tmp_path / 'out', CFG, params)
  assert os.listdir(tmp_path) == ['out']
  with pytest.raises(BadInput, match='not an empty folder'):
    hf.save(tmp_path / 'out', CFG, params)
  same(hf.load(tmp_path / 'out', CFG), params)


def test_what_transformers_has_not_is_refused(tmp_path):
  cfg = dataclasses.replace(CFG, qk_norm=True)
  with pytest.raises(BadInput, match='no architecture of transformers has both'):
    hf.save(tmp_path / 'out', cfg, noise(cfg))
  with pytest.raises(BadInput, match="dtype is 'int8': one of float32, bfloat16, float16"):
    hf.save(tmp_path / 'out', CFG, noise(CFG), dtype='int8')


# --- beside transformers ---

LONG = {
  'rope_type': 'llama3', 'rope_theta': 500_000.0, 'factor': 8.0, 'low_freq_factor': 1.0,
  'high_freq_factor': 4.0, 'original_max_position_embeddings': 512,
}  # fmt: skip
PEERS = {  # family, query heads, key-value heads, vocabulary, and what else is not the usual
  'llama, ratio 1, tied': ('Llama', 4, 4, 131, {'tie_word_embeddings': True}),
  'llama, ratio 2': ('Llama', 4, 2, 97, {}),
  'llama, ratio 7, head 32': ('Llama', 7, 1, 131, {'head_dim': 32, 'hidden_size': 112}),
  'llama, scaled': ('Llama', 4, 2, 131, {'rope_parameters': LONG, 'head_dim': 64}),
  'llama, scaled, tied': (
    'Llama', 14, 2, 257,
    {
      'rope_parameters': LONG | {'factor': 32.0}, 'head_dim': 64, 'hidden_size': 112,
      'tie_word_embeddings': True,
    },
  ),
  'mistral, ratio 2': ('Mistral', 4, 2, 131, {'sliding_window': None}),
  'mistral, 5 heads of width 64': ('Mistral', 5, 1, 131, {'sliding_window': None, 'head_dim': 16}),
  'qwen2, ratio 1': ('Qwen2', 4, 4, 131, {}),
  'qwen2, ratio 2, tied': ('Qwen2', 4, 2, 97, {'tie_word_embeddings': True}),
  'qwen2, ratio 7': ('Qwen2', 14, 2, 131, {'hidden_size': 112}),
  'qwen3, ratio 1, tied': ('Qwen3', 4, 4, 131, {'tie_word_embeddings': True, 'head_dim': 24}),
  'qwen3, ratio 2': ('Qwen3', 4, 2, 97, {'head_dim': 32}),
  'qwen3, ratio 7': ('Qwen3', 7, 1, 131, {'head_dim': 16}),
}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize('case', PEERS)
def test_logits_are_those_of_transformers_both_ways(tmp_path, case):
  """Positions reach 20,000, with gaps, so that the slow pairs of a head turn too."""
  torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
  family, heads, kv_heads, vocabulary, others = PEERS[case]
  sizes = {'hidden_size': 64, 'intermediate_size': 96, 'num_hidden_layers': 3}
  sizes |= {'num_attention_heads': heads, 'num_key_value_heads': kv_heads, 'rms_norm_eps': 1e-5}
  config = getattr(transformers, f'{family}Config')(
    vocab_size=vocabulary, max_position_embeddings=32_768, **sizes | others
  )
  torch.manual_seed(0)
  model = getattr(transformers, f'{family}ForCausalLM')(config).eval()
  with torch.no_grad():
    for name, x in model.named_parameters():
      scale = x.shape[-1] ** -0.5 if x.ndim == 2 and 'embed' not in name else 0.3
      x.copy_(torch.randn(x.shape) * scale + ('norm' in name))
  model.save_pretrained(tmp_path / 'theirs', max_shard_size='100KB')

  rng = np.random.default_rng(0)
  tokens = rng.integers(0, vocabulary, (2, 40))
  positions = np.sort(rng.choice(20_000, (2, 40), replace=False), axis=1)
  positions[1] = 6000 + np.arange(40)

  def theirs(model):
    given = {'input_ids': tokens, 'position_ids': positions, 'attention_mask': tokens * 0 + 1}
    with torch.no_grad():
      return model(**{k: torch.tensor(v) for k, v in given.items()}).logits.numpy()

  cfg = hf.read_config(tmp_path / 'theirs')
  params = hf.load(tmp_path / 'theirs', cfg)
  expected = theirs(model)
  off = np.abs(logits_of(cfg, params, tokens, positions) - expected).max()
  print(f'parity | {case} | {np.abs(expected).max():.2f} | {off:.1e}')
  assert off <= 1e-4
  assert expected.std() > 0.5

  hf.save(tmp_path / 'ours', cfg, params, file_bytes=1e5)
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours').eval()
  state, original = again.state_dict(), model.state_dict()
  assert state.keys() == original.keys()
  assert all(torch.equal(state[name], original[name]) for name in state)
  np.testing.assert_array_equal(theirs(again), expected)


@pytest.mark.peers
@pytest.mark.parametrize('dtype', ['bfloat16', 'float16'])
def test_half_precision_of_transformers_comes_back_to_the_bit(tmp_path, dtype):
  torch, transformers = pytest.importorskip('torch'), pytest.importorskip('transformers')
  config = transformers.Qwen2Config(**SMALL)
  model = transformers.Qwen2ForCausalLM(config).to(getattr(torch, dtype))
  model.save_pretrained(tmp_path / 'theirs')
  cfg = hf.read_config(tmp_path / 'theirs')
  hf.save(tmp_path / 'ours', cfg, hf.load(tmp_path / 'theirs', cfg), dtype=dtype)
  assert read(tmp_path / 'ours') == read(tmp_path / 'theirs')
  again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / 'ours')
  assert again.dtype == getattr(torch, dtype)
