"""Sizes by name: those made for studies, and public models.

A study size is named by its count of non-embedding parameters, rounded; its options and its
vocabulary are the study's. A public one has its own, all of them, as its publisher gives them; its
parameters are drawn afresh, or read by `hf.load`.
"""

import difflib

from scaling.errors import BadInput
from scaling.model.transformer import ModelConfig

_LLAMA31 = dict(
  vocab_size=128_256, head_dim=128, rope_theta=500_000.0, rope_scaling=(8.0, 1.0, 4.0, 8192.0),
  norm_eps=1e-5, qk_norm=False, qkv_bias=False, tied_embeddings=False,
)  # fmt: skip
_LLAMA32 = _LLAMA31 | dict(rope_scaling=(32.0, 1.0, 4.0, 8192.0), tied_embeddings=True)
_QWEN25 = dict(
  vocab_size=151_936, head_dim=128, rope_theta=1_000_000.0, rope_scaling=(), norm_eps=1e-6,
  qk_norm=False, qkv_bias=True, tied_embeddings=True,
)  # fmt: skip
_QWEN25_LARGE = _QWEN25 | dict(vocab_size=152_064, tied_embeddings=False)
_QWEN3 = _QWEN25 | dict(qk_norm=True, qkv_bias=False)
_QWEN3_LARGE = _QWEN3 | dict(tied_embeddings=False)


def _public(family, d_model, n_layers, n_heads, n_kv_heads, d_ff, **others) -> dict:
  sizes = dict(
    d_model=d_model, n_layers=n_layers, n_heads=n_heads, n_kv_heads=n_kv_heads, d_ff=d_ff
  )
  return family | sizes | others


PRESETS = {
  '25k': dict(d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_ff=88),
  '75k': dict(d_model=48, n_layers=3, n_heads=3, n_kv_heads=3, head_dim=16, d_ff=112),
  '150k': dict(d_model=64, n_layers=3, n_heads=4, n_kv_heads=4, head_dim=16, d_ff=176),
  '400k': dict(d_model=96, n_layers=4, n_heads=6, n_kv_heads=3, head_dim=16, d_ff=256),
  '800k': dict(d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352),
  '1.6m': dict(d_model=128, n_layers=8, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352),
  '4m': dict(d_model=192, n_layers=10, n_heads=6, n_kv_heads=3, head_dim=32, d_ff=512),
  '16m': dict(d_model=384, n_layers=9, n_heads=6, n_kv_heads=6, head_dim=64, d_ff=1024),
  '64m': dict(d_model=768, n_layers=9, n_heads=12, n_kv_heads=12, head_dim=64, d_ff=2048),
  'llama-3.2-1b': _public(_LLAMA32, 2048, 16, 32, 8, 8192, head_dim=64),
  'llama-3.2-3b': _public(_LLAMA32, 3072, 28, 24, 8, 8192),
  'llama-3.1-8b': _public(_LLAMA31, 4096, 32, 32, 8, 14336),
  'llama-3.1-70b': _public(_LLAMA31, 8192, 80, 64, 8, 28672),
  'qwen2.5-0.5b': _public(_QWEN25, 896, 24, 14, 2, 4864, head_dim=64),
  'qwen2.5-1.5b': _public(_QWEN25, 1536, 28, 12, 2, 8960),
  'qwen2.5-3b': _public(_QWEN25, 2048, 36, 16, 2, 11008),
  'qwen2.5-7b': _public(_QWEN25_LARGE, 3584, 28, 28, 4, 18944),
  'qwen2.5-14b': _public(_QWEN25_LARGE, 5120, 48, 40, 8, 13824, norm_eps=1e-5),
  'qwen2.5-32b': _public(_QWEN25_LARGE, 5120, 64, 40, 8, 27648, norm_eps=1e-5),
  'qwen3-0.6b': _public(_QWEN3, 1024, 28, 16, 8, 3072),
  'qwen3-1.7b': _public(_QWEN3, 2048, 28, 16, 8, 6144),
  'qwen3-4b': _public(_QWEN3, 2560, 36, 32, 8, 9728),
  'qwen3-8b': _public(_QWEN3_LARGE, 4096, 36, 32, 8, 12288),
  'qwen3-14b': _public(_QWEN3_LARGE, 5120, 40, 40, 8, 17408),
  'qwen3-32b': _public(_QWEN3_LARGE, 5120, 64, 64, 8, 25600),
}
PUBLIC = tuple(name for name, fixed in PRESETS.items() if 'vocab_size' in fixed)


def model_config(preset: str, vocab_size: int, **options) -> ModelConfig:
  """The ModelConfig of a preset for a tokenizer of `vocab_size` ids; an option None is left out.

  BadInput for an unknown preset; and, of a public model, for a tokenizer with more ids than its
  vocabulary, or an option that is not its own.
  """
  if preset not in PRESETS:
    near = difflib.get_close_matches(preset, PRESETS, n=1, cutoff=0.0)[0]
    raise BadInput(
      f'model preset {preset!r} is unknown; nearest: {near!r}; there are: {", ".join(PRESETS)}'
    )
  fixed = PRESETS[preset]
  if vocab_size > fixed.get('vocab_size', vocab_size):
    raise BadInput(
      f'the tokenizer has {vocab_size:,} ids and the vocabulary of model preset {preset!r} '
      f'{fixed["vocab_size"]:,}: use the tokenizer of that model'
    )
  options = {key: value for key, value in options.items() if value is not None}
  for key, value in options.items():
    if fixed.get(key, value) != value:
      raise BadInput(
        f'config.model.{key} is {value!r} and model preset {preset!r} has {fixed[key]!r}: '
        "leave it None, the preset's own"
      )
  return ModelConfig(**{'vocab_size': vocab_size} | fixed | options)
