"""Studies that begin from a checkpoint: what is loaded, what is counted, what is refused."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import analysis
import export
from scaling import branches, compute, sharding, study, train_step
from scaling.data import subwords, vocab
from scaling.errors import BadInput
from scaling.model import hf, transformer
from scaling.stages import origin
from scaling.stages import stage as stages
from tests import tiny
from tests.data import toys

CFG = transformer.ModelConfig(
  vocab_size=vocab.named('arithmetic').size, d_model=16, n_layers=2, n_heads=2, n_kv_heads=1,
  head_dim=8, d_ff=24, qkv_bias=True, rope_theta=5_000.0,
)  # fmt: skip


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory):
  """A Hugging Face folder of a small model."""
  folder = tmp_path_factory.mktemp('models') / 'small'
  hf.save(folder, CFG, transformer.init(CFG, jax.random.key(5)))
  return folder


def config_from(folder, **changed):
  c = tiny.get_config()
  c.pretrain.tasks, c.pretrain.tokens = (), ()
  c.model.sizes, c.rl.updates, c.rl.sizes = ('small',), (), ()
  c.sft.tokens, c.rl.sft_tokens = (2048,), ()
  c.init_from = str(folder)
  for key, value in changed.items():
    setattr(c, key, value)
  return c


def first_state(workdir):
  (path,) = (workdir / 'stages').glob('pretrain-*')
  return stages.state_of(workdir, path.name, sharding.make_mesh())


def test_a_study_begins_with_the_parameters_of_a_checkpoint(checkpoint, tmp_path):
  c = config_from(checkpoint.parent / '{size}', init_tokens=(1e6,))
  c.mesh.fsdp = 2
  workdir = study.run(c, tmp_path / 'w')
  expected = hf.load(checkpoint, CFG)
  jax.tree.map(np.testing.assert_array_equal, first_state(workdir).params, expected)
  records = analysis.load(workdir)
  assert set(records['model']) == {'small'} and set(records['pretrain_source']) == {'estimated'}
  assert set(records['pretrain_tokens']) == {1_000_000}
  matrices = CFG.n_layers * (2 * 16 * 8 * 3 + 3 * 16 * 24) + 16 * CFG.vocab_size
  assert records['pretrain_flops'].unique() == pytest.approx(6e6 * matrices)


def test_what_was_not_given_is_unknown_and_marked(checkpoint):
  cell, ledger = origin.past(
    origin.find(str(checkpoint), None, dtype='float32', vocab_multiple=1)[0], CFG
  )
  assert cell == {'pretrain_tokens': 0, 'pretrain_source': 'unknown'}
  assert compute.total(ledger) == 0


@pytest.fixture(scope='module')
def lora_workdir(tiny_workdir, tmp_path_factory):
  workdir = study.open_workdir(tmp_path_factory.mktemp('lora') / 'w')
  shutil.copytree(tiny_workdir / 'data', workdir / 'data')
  base = stage_of(tiny_workdir, 'pretrain')  # has no adapters: it is the tiny study's
  shutil.copytree(base, workdir / 'stages' / base.name)
  c = tiny.get_config()
  c.name, c.lora.rank, c.rl.updates, c.rl.sft_tokens = 'adapters', 2, (1,), (1024,)
  c.sft.tokens = (1024,)
  return study.run(c, workdir)


def stage_of(workdir, kind):
  return sorted((workdir / 'stages').glob(f'{kind}-*'))[0]


def test_adapters_are_trained_in_sft_and_rl_over_the_base(lora_workdir):
  """Pretraining has none; RL goes on with those of its parent; the base stays, to the bit."""
  mesh = sharding.make_mesh()
  base, sft, rl = (
    stages.state_of(lora_workdir, stage_of(lora_workdir, kind).name, mesh).params['blocks']
    for kind in ('pretrain', 'sft', 'rl')
  )
  for name, x in base.items():
    np.testing.assert_array_equal(sft[name], x)
    np.testing.assert_array_equal(rl[name], x)
  assert 'wq_a' not in base
  for name in set(sft) - set(base):
    assert np.abs(sft[name]).max() > 0 and np.abs(rl[name] - sft[name]).max() > 0, name
  drift = max(float(np.abs(rl[name] - sft[name]).max()) for name in set(sft) - set(base))
  assert drift < 0.01  # one update: not a fresh start


def test_a_study_begins_from_a_stage_of_another_and_counts_what_it_cost(lora_workdir, tmp_path):
  parent = stage_of(lora_workdir, 'sft')
  c = config_from(parent)
  workdir = study.run(c, tmp_path / 'w')
  recipe = json.loads((parent / 'stage.json').read_text())['recipe']
  cfg = transformer.ModelConfig(**recipe['model'])
  state = stages.state_of(lora_workdir, parent.name, sharding.make_mesh())
  merged = hf.merge_lora(cfg, state.params)
  jax.tree.map(np.testing.assert_array_equal, first_state(workdir).params, merged)
  done = json.loads((parent / 'done.json').read_text())
  records = analysis.load(workdir)
  assert set(records['pretrain_source']) == {'counted'}
  spent = sum(compute.total(ledger) for ledger in done['path'].values())
  assert records['pretrain_flops'].unique() == pytest.approx(spent)
  tokens = done['cell']['pretrain_tokens'] + done['cell']['sft_tokens']
  assert set(records['pretrain_tokens']) == {tokens}


def test_an_exported_stage_is_what_was_trained(lora_workdir, tmp_path):
  """Adapters merged, the folder read back gives the log-probs of the model that was trained."""
  stage = stage_of(lora_workdir, 'sft')
  export.export(stage, tmp_path / 'out', 'float32')
  state = stages.state_of(lora_workdir, stage.name, sharding.make_mesh())
  cfg = stages.model(json.loads((stage / 'stage.json').read_text())['recipe'])
  back = hf.read_config(tmp_path / 'out')
  assert back == dataclasses.replace(cfg, lora_rank=0, lora_alpha=back.lora_alpha)
  assert json.loads((tmp_path / 'out' / 'config.json').read_text())['eos_token_id'] == vocab.STOP
  tokens = np.random.default_rng(0).integers(3, cfg.vocab_size, (2, 12), dtype=np.int32)
  batch = {
    'tokens': tokens,
    'positions': np.broadcast_to(np.arange(12, dtype=np.int32), tokens.shape),
    'segment_ids': np.ones_like(tokens),
  }
  logp = lambda cfg, params: train_step.make_score(cfg, sharding.make_mesh())(params, batch, 1.0)
  np.testing.assert_allclose(
    logp(back, hf.load(tmp_path / 'out', back)), logp(cfg, state.params), atol=1e-5
  )
  with pytest.raises(BadInput, match=r'out: it is there and is not an empty folder'):
    export.export(stage, tmp_path / 'out', 'float32')
  with pytest.raises(BadInput, match=r'no stage.json in it; name a folder of WORKDIR/stages'):
    export.export(tmp_path, tmp_path / 'other', 'float32')


def test_what_is_exported_ends_where_the_study_taught_it_and_keeps_what_its_base_says(
  lora_workdir, tmp_path
):
  """A chat template ends a turn with another token than the base's generation_config.json names."""
  base, workdir = toys.chat_folder(tmp_path / 'base', 'qwen'), tmp_path / 'w'
  says = {'max_position_embeddings': 4096, 'bos_token_id': 7, 'eos_token_id': 7, 'other': 1}
  (base / 'config.json').write_text(json.dumps(says))
  sampling = {'eos_token_id': [7, 8], 'bos_token_id': 7, 'top_p': 0.8}
  (base / 'generation_config.json').write_text(json.dumps(sampling))
  stage = stage_of(lora_workdir, 'sft')
  data, name = {'of': 'chats'}, stage.name
  while name:  # the stages of this branch, over that base and on chats
    path = workdir / 'stages' / name / 'stage.json'
    shutil.copytree(lora_workdir / 'stages' / name, path.parent)
    known = json.loads(path.read_text())
    known['recipe']['data'], name = data, known['parent']
    if not name:
      known['recipe']['origin'] = {'kind': 'huggingface', 'folder': str(base)}
    path.write_text(json.dumps(known))
  folder = stages.data_folder(workdir, data)
  folder.mkdir(parents=True)
  subwords.copy(base, folder / 'tokenizer')
  index = {'spec': {'style': 'chat'}, 'vocab': {'name': str(base)}, 'counts': {}, 'sources': {}}
  index |= {'max_prompt_tokens': 1, 'max_response_tokens': 1, 'versions': {}}
  (folder / 'data.json').write_text(json.dumps(index))
  stop = vocab.named(str(base), chat=True).stop
  export.export(workdir / 'stages' / stage.name, tmp_path / 'out', 'float32')
  read = lambda name: json.loads((tmp_path / 'out' / name).read_text())
  assert stop not in (7, 8) and read('generation_config.json') == sampling | {'eos_token_id': stop}
  config = read('config.json')
  assert config['max_position_embeddings'] == 4096 and 'other' not in config
  ends = {key: config[f'{key}_token_id'] for key in ('bos', 'eos', 'pad')}
  assert ends == {'bos': 7, 'eos': stop, 'pad': stop}
  for file in ('tokenizer.json', 'tokenizer_config.json'):
    assert (tmp_path / 'out' / file).read_bytes() == (base / file).read_bytes()


def test_what_cannot_be_exported_is_refused_by_its_folder(lora_workdir, tmp_path):
  bank = stage_of(lora_workdir, 'sample')
  with pytest.raises(BadInput) as error:
    export.export(bank, tmp_path / 'out', 'float32')
  assert str(error.value).startswith(f'{bank}: a stage of kind sample; name one of pretrain')


def test_what_cannot_be_begun_from_is_refused_in_one_line(checkpoint, lora_workdir, tmp_path):
  (tmp_path / 'empty').mkdir()
  refused = {
    tmp_path / 'empty': r'no config.json .* and no stage.json',
    'meta-llama/Llama-3.2-1B': 'nothing is downloaded: .* --local-dir models/Llama-3.2-1B, and',
    stage_of(
      lora_workdir, 'sample'
    ): 'a stage of kind sample; name one of pretrain, sft, rl or dpo',
  }
  for folder, words in refused.items():
    with pytest.raises(BadInput, match=words) as error:
      study.expand(config_from(folder))
    assert '\n' not in str(error.value) and str(folder) in str(error.value)
  c = config_from(checkpoint)
  c.model.qk_norm = True
  with pytest.raises(BadInput, match=r'config.model.qk_norm is True .* has False: leave it None'):
    study.expand(c)
  c = config_from(checkpoint)
  c.data.vocab = 'bytes'
  with pytest.raises(BadInput, match=r'data.vocab=bytes has 259 ids and the model in .* 36: use'):
    study.expand(c)
  with pytest.raises(BadInput, match=r'init_tokens: .* is a Postscale stage, which has its own'):
    study.expand(config_from(stage_of(lora_workdir, 'sft'), init_tokens=(1e6,)))


def test_a_model_goes_on_with_its_own_vocabulary(checkpoint, lora_workdir, tmp_path):
  """Ids mean nothing to a model that learned others, whatever their number."""
  words = lambda own: rf'has other ids than the model in .* learned: set config.data.vocab={own}$'

  def model_of(folder, name):
    c = config_from(folder)
    c.data.vocab, c.data.style = name, 'full'
    return branches.model_of(c, 'small')[1]

  folder, tokenizer = tmp_path / 'small', toys.byte_level()
  wide = dataclasses.replace(CFG, vocab_size=400)
  hf.save(folder, wide, transformer.init(wide, jax.random.key(5)))
  assert model_of(folder, 'arithmetic') == wide  # no tokenizer in it: any that is not too large
  toys.folder(tmp_path / 'its', tokenizer, eos_token='<|endoftext|>')
  (folder / 'tokenizer.json').write_text(
    json.dumps(json.loads((tmp_path / 'its' / 'tokenizer.json').read_text()), indent=1)
  )
  other = toys.folder(tmp_path / 'other', toys.byte_level(size=300), eos_token='<|endoftext|>')
  assert model_of(folder, str(tmp_path / 'its')) == wide
  for name in ('arithmetic', 'bpe(300)', str(other)):
    with pytest.raises(BadInput, match=words(folder)):
      model_of(folder, name)

  shutil.copytree(stage_of(lora_workdir, 'sft'), stage := tmp_path / 'w' / 'stages' / 'sft-1')
  with pytest.raises(BadInput, match=words('arithmetic')):
    model_of(stage, 'ascii')
  known = json.loads((stage / 'stage.json').read_text())
  known['recipe']['model']['vocab_size'] = 400
  known['recipe']['data']['vocab'] = 'bpe(360)'
  (stage / 'stage.json').write_text(json.dumps(known))
  kept = stages.data_folder(tmp_path / 'w', known['recipe']['data']) / 'tokenizer'
  kept.parent.mkdir(parents=True)
  subwords.copy(tmp_path / 'its', kept)
  assert model_of(stage, str(kept)).vocab_size == 400
  for name in ('arithmetic', 'bpe(360)', str(other)):
    with pytest.raises(BadInput, match=words(kept)):
      model_of(stage, name)


def test_a_checkpoint_that_changed_after_planning_is_refused(checkpoint):
  begun, cfg = origin.find(str(checkpoint), None, dtype='float32', vocab_multiple=1)
  with pytest.raises(BadInput, match='changed since the study was planned'):
    origin.load(begun | {'fingerprint': '0'}, cfg, sharding.make_mesh())
