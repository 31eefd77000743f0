"""Models of Hugging Face transformers: a folder with config.json and safetensors, read and written.

    read_config(folder) -> ModelConfig
    load(folder, cfg, shardings) -> params
    save(folder, cfg, params)

A safetensors file is 8 bytes, the length of a header, little-endian; the header, JSON, {name:
{dtype, shape, data_offsets}}; and the data, to which the offsets point. A model is one such file,
or several with an index that says which tensor is in which. One tensor of one layer is in host
memory at a time, both ways, and of it the slices that this host's devices hold: a stack of layers
is put together on the devices.
"""

import dataclasses
import functools
import json
import math
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from scaling import files, sharding
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import ModelConfig

SINGLE = 'model.safetensors'
INDEX = 'model.safetensors.index.json'

ARCHITECTURES = {  # as config.json names them: what each adds to the model
  'LlamaForCausalLM': {},
  'MistralForCausalLM': {},
  'Qwen2ForCausalLM': {'qkv_bias': True},
  'Qwen3ForCausalLM': {'qk_norm': True},
}

SHAPE = {  # keys of config.json that are sizes, and the fields they become
  'vocab_size': 'vocab_size',
  'hidden_size': 'd_model',
  'num_hidden_layers': 'n_layers',
  'num_attention_heads': 'n_heads',
  'num_key_value_heads': 'n_kv_heads',
  'head_dim': 'head_dim',
  'intermediate_size': 'd_ff',
}

PLAIN = {  # keys that change the model, and the one value, beside null, with which it is this one
  'hidden_act': 'silu',
  'attention_bias': False,
  'mlp_bias': False,
  'use_sliding_window': False,
  'partial_rotary_factor': 1.0,
  'pretraining_tp': 1,
  'quantization_config': None,
}

LLAMA3 = (  # of a rotary embedding of type llama3, in the order of ModelConfig.rope_scaling
  'factor',
  'low_freq_factor',
  'high_freq_factor',
  'original_max_position_embeddings',
)

# By our name: the tensor; its axes, a space between those of the file; the axes of our parameter.
# V vocabulary, D width, N query heads, K key-value heads, H head width, F feed-forward width.
TENSORS = {
  'embed': ('model.embed_tokens.weight', 'V D', 'VD'),
  'final_norm': ('model.norm.weight', 'D', 'D'),
  'unembed': ('lm_head.weight', 'V D', 'DV'),
  'attention_norm': ('model.layers.{}.input_layernorm.weight', 'D', 'D'),
  'wq': ('model.layers.{}.self_attn.q_proj.weight', 'NH D', 'DNH'),
  'wk': ('model.layers.{}.self_attn.k_proj.weight', 'KH D', 'DKH'),
  'wv': ('model.layers.{}.self_attn.v_proj.weight', 'KH D', 'DKH'),
  'wo': ('model.layers.{}.self_attn.o_proj.weight', 'D NH', 'NHD'),
  'bq': ('model.layers.{}.self_attn.q_proj.bias', 'NH', 'NH'),
  'bk': ('model.layers.{}.self_attn.k_proj.bias', 'KH', 'KH'),
  'bv': ('model.layers.{}.self_attn.v_proj.bias', 'KH', 'KH'),
  'q_norm': ('model.layers.{}.self_attn.q_norm.weight', 'H', 'H'),
  'k_norm': ('model.layers.{}.self_attn.k_norm.weight', 'H', 'H'),
  'mlp_norm': ('model.layers.{}.post_attention_layernorm.weight', 'D', 'D'),
  'w_gate': ('model.layers.{}.mlp.gate_proj.weight', 'F D', 'DF'),
  'w_up': ('model.layers.{}.mlp.up_proj.weight', 'F D', 'DF'),
  'w_down': ('model.layers.{}.mlp.down_proj.weight', 'D F', 'FD'),
}

DTYPES = {'F32': np.dtype(np.float32), 'BF16': np.dtype(jnp.bfloat16), 'F16': np.dtype(np.float16)}


def _read_json(path: Path) -> dict:
  """The JSON object of a file. BadInput where there is none."""
  try:
    value = json.loads(path.read_bytes())
  except OSError as error:
    raise BadInput(
      f'{path}: cannot be read ({error.strerror}); name the folder of a model in the form of '
      'Hugging Face transformers'
    ) from error
  except ValueError as error:
    raise BadInput(f'{path}: not JSON ({error}); fetch the file again') from error
  if not isinstance(value, dict):
    raise BadInput(f'{path}: not a JSON object; fetch the file again')
  return value


def read_config(folder: Path) -> ModelConfig:
  """The ModelConfig that a folder's config.json describes.

  BadInput, naming the file and the key, where there is none or the model cannot represent it.
  """
  path = Path(folder) / 'config.json'
  config = _read_json(path)
  names = config.get('architectures') or [None]
  if names[0] not in ARCHITECTURES:
    raise BadInput(
      f'{path}: architectures is {config.get("architectures")}: there are '
      f'{", ".join(ARCHITECTURES)}'
    )
  plain = PLAIN | ({'sliding_window': None} if names[0] == 'MistralForCausalLM' else {})
  for key, value in plain.items():
    if config.get(key) not in (None, value):
      raise BadInput(f'{path}: {key} is {config[key]!r}: the model here has {value!r} alone')
  if set(config.get('layer_types') or ()) - {'full_attention'}:
    raise BadInput(f'{path}: layer_types has others than full_attention, which alone is known here')

  for key in SHAPE:  # in this order: the two that may be missing follow from those before them
    if config.get(key) is None and key == 'num_key_value_heads':
      config[key] = config['num_attention_heads']
    if config.get(key) is None and key == 'head_dim' and names[0] != 'Qwen3ForCausalLM':
      config[key] = config['hidden_size'] // config['num_attention_heads']
    if type(config.get(key)) is not int or config[key] < 1:
      raise BadInput(f'{path}: {key} is {config.get(key)!r}: it must be a whole number above 0')
  theta, scaling = _rope(path, config)
  try:
    return ModelConfig(
      **{field: config[key] for key, field in SHAPE.items()},
      rope_theta=theta,
      rope_scaling=scaling,
      norm_eps=_number(path, config, 'rms_norm_eps', 1e-6),
      tied_embeddings=bool(config.get('tie_word_embeddings', False)),
      **ARCHITECTURES[names[0]],
    )
  except BadInput as error:
    raise BadInput(f'{path}: {error}') from error


def _number(path: Path, section: dict, key: str, usual: float | None = None) -> float:
  """A number of config.json; BadInput where it is none."""
  value = section.get(key)
  value = usual if value is None else value
  if type(value) not in (int, float):
    raise BadInput(f'{path}: {key} is {value!r}: it must be a number')
  return float(value)


def _rope(path: Path, config: dict) -> tuple[float, tuple]:
  """(theta, rope_scaling), from rope_parameters, or from rope_theta and rope_scaling, which it was
  before version 5 of transformers."""
  key = 'rope_parameters' if config.get('rope_parameters') else 'rope_scaling'
  rope = config.get(key) or {}
  kind = rope.get('rope_type', rope.get('type', 'default'))
  nested = any(isinstance(value, dict) for value in rope.values())
  if nested or kind not in ('default', 'llama3'):
    raise BadInput(
      f'{path}: {key} is {"by kind of layer" if nested else f"of type {kind!r}"}: the rotary '
      "positions known here are 'default' and 'llama3'"
    )
  if rope.get('partial_rotary_factor') not in (None, 1.0):
    raise BadInput(f'{path}: {key} has partial_rotary_factor: the model here turns whole heads')
  theta = _number(path, config | rope, 'rope_theta', 10_000.0)
  return theta, tuple(_number(path, rope, name) for name in LLAMA3 if kind == 'llama3')


class Stored(NamedTuple):
  """Where a tensor is stored."""

  path: Path
  dtype: str  # a key of DTYPES, if it can be read
  shape: tuple[int, ...]
  start: int  # its first byte in the file


def _header(path: Path) -> dict[str, Stored]:
  """The tensors of a safetensors file, by name. BadInput where it is damaged."""
  size = path.stat().st_size
  tensors = {}
  try:
    with open(path, 'rb') as file:
      data = 8 + int.from_bytes(file.read(8), 'little')
      if not 8 < data <= size:
        raise ValueError
      header = json.loads(file.read(data - 8))
    header.pop('__metadata__', None)
    for name, entry in header.items():
      begin, end = entry['data_offsets']
      stored = Stored(path, entry['dtype'], tuple(entry['shape']), data + begin)
      wide = DTYPES[stored.dtype].itemsize if stored.dtype in DTYPES else None
      if begin < 0 or (wide and end - begin != wide * math.prod(stored.shape)):
        raise ValueError
      if data + end > size:
        raise BadInput(
          f'{path}: cut short: tensor {name} ends at byte {data + end:,}, the file at {size:,}; '
          'fetch it again'
        )
      tensors[name] = stored
  except BadInput:
    raise
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise BadInput(f'{path}: its header is not one of safetensors; fetch the file again') from error
  return tensors


def _stored(folder: Path) -> dict[str, Stored]:
  """All tensors of a folder, by name. BadInput for a file that is missing or damaged."""
  single, index = folder / SINGLE, folder / INDEX
  if single.is_file():
    return _header(single)
  if not index.is_file():
    raise BadInput(f'{folder}: there is neither {SINGLE} nor {INDEX}')
  places = _read_json(index).get('weight_map')
  if not isinstance(places, dict) or not all(isinstance(v, str) for v in places.values()):
    raise BadInput(f'{index}: it has no weight_map of tensors to files; fetch the file again')
  headers, tensors = {}, {}
  for name, file in places.items():
    path = folder / file
    if file not in headers:
      if not path.is_file():
        raise BadInput(f'{path}: missing, and {INDEX} names it for {name}; fetch that file')
      headers[file] = _header(path)
    if name not in headers[file]:
      raise BadInput(f'{path}: there is no tensor {name}, which {INDEX} says it holds')
    tensors[name] = headers[file][name]
  return tensors


def _sizes(cfg: ModelConfig, vocabulary: int) -> dict[str, int]:
  return {
    'V': vocabulary,
    'D': cfg.d_model,
    'N': cfg.n_heads,
    'K': cfg.n_kv_heads,
    'H': cfg.head_dim,
    'F': cfg.d_ff,
  }


def _shape(cfg: ModelConfig, axes: str) -> tuple[int, ...]:
  """The shape in a file of a tensor of these axes."""
  sizes = _sizes(cfg, cfg.vocab_size)
  return tuple(math.prod(sizes[axis] for axis in group) for group in axes.split())


class Place(NamedTuple):
  """What a tensor of a file is here."""

  name: str  # of our parameter
  layer: int  # 0 where it is not of a block
  shape: tuple[int, ...]  # in the file


def _tensors(cfg: ModelConfig) -> dict[str, Place]:
  """The tensors of a model, by their names in a file, layer after layer."""
  form = transformer.form(dataclasses.replace(cfg, lora_rank=0))
  outer = {TENSORS[name][0]: (name, 0) for name in form if name != 'blocks'}
  inner = {
    TENSORS[name][0].format(layer): (name, layer)
    for layer in range(cfg.n_layers)
    for name in form['blocks']
  }
  return {
    tensor: Place(name, layer, _shape(cfg, TENSORS[name][1]))
    for tensor, (name, layer) in (outer | inner).items()
  }


def _check(folder: Path, cfg: ModelConfig, stored: dict[str, Stored]) -> None:
  """BadInput where the tensors of a folder are not those of the model."""
  wanted = _tensors(cfg)
  for name, place in wanted.items():
    if name not in stored:
      raise BadInput(f'{folder}: there is no tensor {name} {place.shape}, which this model has')
    path, dtype, shape, _ = stored[name]
    if shape != place.shape:
      raise BadInput(f'{path}: tensor {name} is {shape}, expected {place.shape} for this model')
    if dtype not in DTYPES:
      raise BadInput(
        f'{path}: tensor {name} is stored as {dtype}; known are {", ".join(DTYPES)}: convert it'
      )
  embedding, head = TENSORS['embed'][0], TENSORS['unembed'][0]
  if head not in wanted and head in stored and not _same(stored[embedding], stored[head]):
    raise BadInput(
      f'{stored[head].path}: tensor {head} is not {embedding}, and config.json says they are tied: '
      'set its tie_word_embeddings to false'
    )
  for name in stored:
    if name not in wanted and name != head and not name.endswith('rotary_emb.inv_freq'):
      raise BadInput(f'{stored[name].path}: tensor {name} is unexpected: this model has none such')


def _same(a: Stored, b: Stored) -> bool:
  """Whether two tensors are equal to the bit; a part of them is read at a time."""
  if a[1:3] != b[1:3]:
    return False
  pairs = zip(*(np.array_split(_mapped(x, x.shape), 64) for x in (a, b)))
  return all(one.tobytes() == other.tobytes() for one, other in pairs)


def _mapped(stored: Stored, shape: tuple[int, ...]) -> np.ndarray:
  """The tensor as it lies in the file, mapped: what is sliced out of it is all that is read."""
  count = math.prod(stored.shape)
  flat = np.memmap(stored.path, DTYPES[stored.dtype], 'r', stored.start, (count,))
  return flat.reshape(shape)


def _read(stored: Stored, shape: tuple[int, ...], rows: int, index: tuple) -> np.ndarray:
  """A slice of a tensor of this shape, whose first `rows` rows are stored, and the others zero."""
  part = np.array(_mapped(stored, (rows, *shape[1:]))[index])
  missing = len(range(*index[0].indices(shape[0]))) - len(part)
  return np.pad(part, [(0, missing)] + [(0, 0)] * (part.ndim - 1)) if missing else part


@functools.lru_cache
def _arrange(order: tuple[int, ...], where: NamedSharding):
  """A jitted program: a tensor with its axes in our order, float32."""
  return jax.jit(lambda x: x.transpose(order).astype(jnp.float32), out_shardings=where)


@functools.lru_cache
def _put(order: tuple[int, ...], where: NamedSharding):
  """A jitted program: the same, written into a stack, in place, as layer i."""

  def put(stack, x, i):
    return stack.at[i].set(x.transpose(order).astype(jnp.float32))

  return jax.jit(put, donate_argnums=0, out_shardings=where)


def _parameter(cfg: ModelConfig, stored: dict, name: str, form, where: NamedSharding) -> jax.Array:
  """One parameter, on its devices."""
  tensor, theirs, ours = TENSORS[name]
  stacked, theirs = '{}' in tensor, theirs.replace(' ', '')
  spec = (*where.spec, *[None] * form.ndim)[stacked : form.ndim]
  order = tuple(theirs.index(axis) for axis in ours)
  sizes = _sizes(cfg, cfg.padded_vocab)
  shape = tuple(sizes[axis] for axis in theirs)
  rows = _sizes(cfg, cfg.vocab_size)[theirs[0]]
  laid = NamedSharding(where.mesh, P(*(spec[ours.index(axis)] for axis in theirs)))

  def layer(i):
    at = stored[tensor.format(i)]
    read = functools.partial(_read, at, shape, rows)
    return jax.make_array_from_callback(shape, laid, read, dtype=DTYPES[at.dtype])

  if not stacked:
    return _arrange(order, where)(layer(0))
  stack = jax.jit(jnp.zeros, static_argnums=0, out_shardings=where)(form.shape)
  for i in range(cfg.n_layers):
    stack = _put(order, where)(stack, layer(i), i)
    stack.block_until_ready()  # before the next is read: one layer at a time is in memory
  return stack


def load(folder: Path, cfg: ModelConfig, shardings: dict | None = None) -> dict:
  """The parameters of a folder, float32, laid over devices.

  float32, bfloat16 and float16 are read. Rows of the embedding beyond the vocabulary (cfg's
  vocab_multiple) are zero. Adapters are not read: a stage that trains some adds them.

  Args:
    cfg: of the folder, `read_config`; vocab_multiple, dtype and LoRA are free.
    shardings: a NamedSharding for each parameter; None: all on the first device.

  BadInput, naming file and tensor, where a file is missing or damaged, or a tensor is missing, of
  the wrong shape, or unexpected; before anything is read.
  """
  folder = Path(folder)
  if cfg.mup_base:
    raise BadInput(f'config.model.mup_base is {cfg.mup_base}: the model in {folder} has no muP')
  stored = _stored(folder)
  _check(folder, cfg, stored)
  form = transformer.form(dataclasses.replace(cfg, lora_rank=0))
  if shardings is None:
    shardings = sharding.shardings(sharding.make_mesh(), form)

  def parameters(form, where):
    return {
      name: _parameter(cfg, stored, name, leaf, where[name])
      for name, leaf in form.items()
      if name != 'blocks'
    }

  return parameters(form, shardings) | {'blocks': parameters(form['blocks'], shardings['blocks'])}


def _merged(cfg: ModelConfig, block: dict, name: str) -> jax.Array:
  """A parameter of one block, or of a stack of them, with its adapter added."""
  if f'{name}_a' not in block:
    return block[name]
  product = jnp.matmul(block[f'{name}_a'], block[f'{name}_b'], precision='highest')
  return block[name] + (cfg.lora_alpha / cfg.lora_rank) * product.reshape(block[name].shape)


def merge_lora(cfg: ModelConfig, params: dict) -> dict:
  """Parameters without adapters that compute the same: W + (alpha / rank) A B (2106.09685)."""
  blocks = params['blocks']
  return params | {
    'blocks': {name: _merged(cfg, blocks, name) for name in blocks if name in TENSORS}
  }


@functools.partial(jax.jit, static_argnames=('cfg', 'name', 'dtype'))
def _take(cfg: ModelConfig, params: dict, name: str, layer: jax.Array, dtype: str) -> jax.Array:
  """One tensor as a file has it. params: those that it is made of."""
  tensor, theirs, ours = TENSORS[name]
  if '{}' in tensor:
    params = {part: stack[layer] for part, stack in params.items()}
  x = _merged(cfg, params, name)
  if name == 'final_norm' and cfg.mup_base:
    x = x * (cfg.mup_base / cfg.d_model)  # what muP multiplies the logits by
  axes = theirs.replace(' ', '')
  x = x.transpose([ours.index(axis) for axis in axes])
  if axes[0] == 'V':
    x = x[: cfg.vocab_size]
  return x.reshape(_shape(cfg, theirs)).astype(dtype)


def _config(cfg: ModelConfig, dtype: str) -> dict:
  """The config.json of a model, in the form that old and new versions of transformers read."""
  if cfg.qkv_bias and cfg.qk_norm:
    raise BadInput('model.qkv_bias and model.qk_norm: no architecture of transformers has both')
  if cfg.qkv_bias or cfg.qk_norm:
    kind = 'Qwen2' if cfg.qkv_bias else 'Qwen3'
  else:  # Llama's own config refuses a width that is not a multiple of the heads
    kind = 'Mistral' if cfg.d_model % cfg.n_heads else 'Llama'
  config = {
    'architectures': [f'{kind}ForCausalLM'],
    'model_type': kind.lower(),
    **{key: getattr(cfg, field) for key, field in SHAPE.items()},
    'hidden_act': 'silu',
    'rms_norm_eps': cfg.norm_eps,
    'rope_theta': cfg.rope_theta,
    'rope_scaling': None,
    'tie_word_embeddings': cfg.tied_embeddings,
    'sliding_window': None,
    'torch_dtype': dtype,
  }
  if cfg.rope_scaling:
    *factors, original = cfg.rope_scaling
    config['rope_scaling'] = {'rope_type': 'llama3'} | dict(zip(LLAMA3, (*factors, int(original))))
    config['max_position_embeddings'] = int(factors[0] * original)
  return config


def _write(path: Path, sizes: dict[str, tuple[int, ...]], dtype: str, tensor) -> None:
  """Writes a safetensors file of tensors of these shapes; tensor(name) gives each in its turn."""
  kind = {str(value): key for key, value in DTYPES.items()}[dtype]
  header, at = {'__metadata__': {'format': 'pt'}}, 0
  for name, shape in sizes.items():
    end = at + DTYPES[kind].itemsize * math.prod(shape)
    header[name] = {'dtype': kind, 'shape': shape, 'data_offsets': [at, end]}
    at = end
  text = json.dumps(header).encode()
  text += b' ' * (-len(text) % 8)
  writes = jax.process_index() == 0
  with open(path if writes else os.devnull, 'wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for name in sizes:
      value = tensor(name)
      if writes:
        value.tofile(file)


def save(
  folder: Path,
  cfg: ModelConfig,
  params: dict,
  dtype: str = 'float32',
  more: dict | None = None,
  file_bytes: float = 5e9,
) -> None:
  """Writes a model that transformers loads: whole, or not at all.

  Adapters are merged, the factor that muP multiplies logits by goes into the last norm, and spare
  rows of the embedding are left out. Every process calls this; the first one writes.

  Args:
    folder: made; it must not be there, or be empty.
    dtype: of the file: float32, bfloat16 or float16.
    more: further keys of config.json: the ids of special tokens, the longest context.
    file_bytes: a model larger than this is written as several files of at most so much.

  BadInput where the folder is not empty, or transformers has no such model.
  """
  folder = Path(folder).absolute()
  if dtype not in map(str, DTYPES.values()):
    raise BadInput(f'dtype is {dtype!r}: one of {", ".join(map(str, DTYPES.values()))}')
  config = _config(cfg, dtype) | (more or {})
  if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
    raise BadInput(f'{folder}: it is there and is not an empty folder; name another')
  scratch = folder.with_name(f'.{folder.name}{files.PARTIAL}')
  if jax.process_index() == 0:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)

  places = _tensors(cfg)
  bytes_of = lambda tensor: np.dtype(dtype).itemsize * math.prod(places[tensor].shape)
  parts = [{}]
  for tensor, place in places.items():
    if parts[-1] and sum(map(bytes_of, parts[-1])) + bytes_of(tensor) > file_bytes:
      parts.append({})
    parts[-1][tensor] = place.shape
  names = [f'model-{i:05}-of-{len(parts):05}.safetensors' for i in range(1, len(parts) + 1)]
  names = names if len(parts) > 1 else [SINGLE]

  def tensor(of):
    name, layer, _ = places[of]
    group = params['blocks'] if name in params['blocks'] else params
    group = {part: group[part] for part in (name, f'{name}_a', f'{name}_b') if part in group}
    value = _take(cfg, group, name, layer, dtype)
    return np.asarray(multihost_utils.process_allgather(value, tiled=True))

  for file, part in zip(names, parts):
    _write(scratch / file, part, dtype, tensor)
  if jax.process_index() == 0:
    if len(parts) > 1:
      where = {tensor: file for file, part in zip(names, parts) for tensor in part}
      total = sum(map(bytes_of, places))
      files.write_json(scratch / INDEX, {'metadata': {'total_size': total}, 'weight_map': where})
    files.write_json(scratch / 'config.json', config)
    os.replace(scratch, folder)
