"""Sizes by name. A name is the count of non-embedding parameters, rounded."""

import difflib

from scaling.errors import BadInput
from scaling.model.transformer import ModelConfig

PRESETS = {
  '25k': dict(d_model=32, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=16, d_ff=88),
  '75k': dict(d_model=48, n_layers=3, n_heads=3, n_kv_heads=3, head_dim=16, d_ff=112),
  '150k': dict(d_model=64, n_layers=3, n_heads=4, n_kv_heads=4, head_dim=16, d_ff=176),
  '400k': dict(d_model=96, n_layers=4, n_heads=6, n_kv_heads=3, head_dim=16, d_ff=256),
  '800k': dict(d_model=128, n_layers=4, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352),
  '1.6m': dict(d_model=128, n_layers=8, n_heads=4, n_kv_heads=4, head_dim=32, d_ff=352),
  '4m': dict(d_model=192, n_layers=10, n_heads=6, n_kv_heads=3, head_dim=32, d_ff=512),
}


def model_config(preset: str, vocab_size: int, **overrides) -> ModelConfig:
  """The ModelConfig of a preset over a vocabulary. BadInput for an unknown preset."""
  if preset not in PRESETS:
    near = difflib.get_close_matches(preset, PRESETS, n=1, cutoff=0.0)[0]
    raise BadInput(
      f'model preset {preset!r} is unknown; nearest: {near!r}; there are: {", ".join(PRESETS)}'
    )
  return ModelConfig(vocab_size=vocab_size, **PRESETS[preset] | overrides)
