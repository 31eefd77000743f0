"""Presets: those of studies by their counts of parameters, public models by what is published."""

import pytest

from scaling.compute import parameters
from scaling.errors import BadInput
from scaling.model.presets import PRESETS, model_config

PUBLISHED = {  # parameters, tied embeddings once: of the safetensors files and the model cards
  'llama-3.2-1b': 1_235_814_400,
  'llama-3.2-3b': 3_212_749_824,
  'llama-3.1-8b': 8_030_261_248,
  'llama-3.1-70b': 70_553_706_496,
  'qwen2.5-0.5b': 494_032_768,
  'qwen2.5-1.5b': 1_543_714_304,
  'qwen2.5-3b': 3_085_938_688,
  'qwen2.5-7b': 7_615_616_512,
  'qwen2.5-14b': 14_770_033_664,
  'qwen2.5-32b': 32_763_876_352,
  'qwen3-0.6b': 596_049_920,
  'qwen3-1.7b': 1_720_574_976,
  'qwen3-4b': 4_022_468_096,
  'qwen3-8b': 8_190_735_360,
  'qwen3-14b': 14_768_307_200,
  'qwen3-32b': 32_762_123_264,
}
STUDY = [name for name in PRESETS if name not in PUBLISHED]


@pytest.mark.parametrize('name', STUDY)
def test_a_study_size_is_named_by_its_non_embedding_parameters(name):
  cfg = model_config(name, vocab_size=50)
  stated = float(name[:-1]) * {'k': 1e3, 'm': 1e6}[name[-1]]
  assert parameters(cfg).non_embedding == pytest.approx(stated, rel=0.02)
  assert cfg.n_heads % cfg.n_kv_heads == 0 and cfg.head_dim % 2 == 0
  assert cfg.n_heads * cfg.head_dim == cfg.d_model
  assert cfg.vocab_size == 50


@pytest.mark.parametrize('name', PUBLISHED)
def test_a_public_model_has_the_published_count_of_parameters(name):
  cfg = model_config(name, vocab_size=50)
  assert parameters(cfg).total == PUBLISHED[name]
  assert cfg.vocab_size == PRESETS[name]['vocab_size']


def test_options_of_a_family():
  """What a count of parameters does not show."""
  for name in PUBLISHED:
    cfg = model_config(name, vocab_size=50)
    llama, qwen3 = name.startswith('llama'), name.startswith('qwen3')
    assert cfg.rope_theta == (5e5 if llama else 1e6)
    factor = 32.0 if name.startswith('llama-3.2') else 8.0
    assert cfg.rope_scaling == ((factor, 1.0, 4.0, 8192.0) if llama else ())
    wide = llama or name in ('qwen2.5-14b', 'qwen2.5-32b')
    assert cfg.norm_eps == (1e-5 if wide else 1e-6)
    assert (cfg.qk_norm, cfg.qkv_bias) == (qwen3, not llama and not qwen3)


def test_an_option_is_the_studys_or_the_models_own():
  cfg = model_config('25k', 50, qk_norm=True, tied_embeddings=None, rope_theta=None)
  assert cfg.qk_norm and cfg.tied_embeddings and cfg.rope_theta == 10_000.0
  cfg = model_config('qwen3-0.6b', 50, qk_norm=None, rope_theta=1e6, dtype='bfloat16')
  assert cfg.qk_norm and cfg.rope_theta == 1e6 and cfg.dtype == 'bfloat16'
  with pytest.raises(BadInput, match=r"config.model.qk_norm is False .*'qwen3-0.6b' has True"):
    model_config('qwen3-0.6b', 50, qk_norm=False)


def test_a_tokenizer_must_fit_the_vocabulary():
  assert model_config('llama-3.2-1b', 128_256).vocab_size == 128_256
  with pytest.raises(BadInput, match=r"tokenizer has 128,257 ids .*'llama-3.2-1b' 128,256"):
    model_config('llama-3.2-1b', 128_257)


def test_an_unknown_preset_names_the_nearest():
  with pytest.raises(BadInput, match=r"'150' is unknown; nearest: '150k'"):
    model_config('150', vocab_size=50)
