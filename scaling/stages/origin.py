"""Where a model begins that is not drawn afresh: `config.init_from`, one folder for each size.

A folder is a Hugging Face checkpoint (config.json and *.safetensors), or a stage of training of a
Postscale workdir (stage.json). An origin is JSON, part of the recipe of the study's first stage:

    {kind: 'huggingface' or 'postscale', folder, fingerprint, tokens: trained on before, or None}

What the study knows of the compute that went into it (`past`):

    counted     a Postscale stage: its own ledger
    estimated   tokens were given (config.init_tokens): 6 FLOPs a token and parameter of a matrix
    unknown     they were not: nothing is counted, and the records say so
"""

import dataclasses
import hashlib
import json
from pathlib import Path

from jax.sharding import Mesh

from scaling import checkpoint, compute, sharding, train_step
from scaling.errors import BadInput
from scaling.model import hf, transformer

UNSET = {'vocab_multiple': 1, 'mup_base': 0}  # what config.model has by default; of others, None
EDGE = 1 << 20  # bytes at either end of a weight file that the fingerprint reads


def find(folder: str, tokens: float | None, **options) -> tuple[dict, transformer.ModelConfig]:
  """(origin, the model's config) of a folder. BadInput where nothing can begin there.

  options: of config.model; those that are set must be the model's own, but for dtype and, of a
  Hugging Face checkpoint, vocab_multiple. Adapters are merged when a stage is loaded.
  """
  path = Path(folder)
  if (path / 'stage.json').is_file():
    kind, print_ = 'postscale', _of_stage(path)
    cfg = dataclasses.replace(_stage_model(path), lora_rank=0)
    if tokens is not None:
      raise BadInput(f'config.init_tokens: {folder} is a Postscale stage, which has its own ledger')
    free = ('dtype',)
  elif (path / 'config.json').is_file():
    kind, print_, cfg = 'huggingface', _of_checkpoint(path), hf.read_config(path)
    free = ('dtype', 'vocab_multiple')
  elif not path.is_dir():
    raise BadInput(
      f'config.init_from={folder}: no such folder, and nothing is downloaded: fetch it first, say '
      f'with hf download {folder} --local-dir models/{path.name}, and name its folder'
    )
  else:
    raise BadInput(
      f'config.init_from={folder}: no config.json (a Hugging Face checkpoint) and no stage.json '
      '(a stage of a Postscale workdir) in it'
    )
  cfg = dataclasses.replace(cfg, **{name: options.pop(name) for name in free})
  for name, value in options.items():
    if value not in (UNSET.get(name), getattr(cfg, name)):
      raise BadInput(
        f'config.model.{name} is {value!r} and the model in {folder} has {getattr(cfg, name)!r}: '
        f'leave it {UNSET.get(name)}'
      )
  return {'kind': kind, 'folder': folder, 'fingerprint': print_, 'tokens': tokens}, cfg


def _of_stage(path: Path) -> str:
  """The id of a finished stage of training, which names all that it depends on."""
  stage = json.loads((path / 'stage.json').read_text())
  if stage['kind'] not in ('pretrain', 'sft', 'rl', 'dpo'):
    raise BadInput(
      f'config.init_from={path}: a stage of kind {stage["kind"]}; name one of pretrain, sft, rl or '
      'dpo'
    )
  try:
    outcome = json.loads((path / 'done.json').read_text())['outcome']
  except FileNotFoundError:
    raise BadInput(f'config.init_from={path}: the stage has not finished; run its study') from None
  if outcome != 'ok':
    raise BadInput(f'config.init_from={path}: the stage ended as {outcome!r}; name another')
  return stage['id']


def _of_checkpoint(path: Path) -> str:
  """A hash of config.json, and of the name, the size and both ends of every weight file."""
  digest = hashlib.sha256((path / 'config.json').read_bytes())
  for file in sorted(path.glob('*.safetensors')):
    size = file.stat().st_size
    digest.update(f'{file.name} {size}'.encode())
    with open(file, 'rb') as content:
      digest.update(content.read(EDGE))
      content.seek(max(size - EDGE, 0))
      digest.update(content.read(EDGE))
  return digest.hexdigest()[:16]


def _stage_recipe(path: Path) -> dict:
  return json.loads((path / 'stage.json').read_text())['recipe']


def _stage_model(path: Path) -> transformer.ModelConfig:
  return transformer.ModelConfig(**_stage_recipe(path)['model'])


def load(origin: dict, cfg: transformer.ModelConfig, mesh: Mesh) -> dict:
  """The parameters of an origin, float32, laid over the mesh. BadInput where they are not there."""
  path = Path(origin['folder'])
  if not path.is_dir():
    raise BadInput(f'config.init_from={path}: no such folder')
  found = _of_stage(path) if origin['kind'] == 'postscale' else _of_checkpoint(path)
  if found != origin['fingerprint']:
    raise BadInput(f'config.init_from={path}: changed since the study was planned; run it again')
  if origin['kind'] == 'huggingface':
    form = sharding.shardings(mesh, transformer.form(dataclasses.replace(cfg, lora_rank=0)))
    return hf.load(path, cfg, form)
  trained = _stage_model(path)
  opt = train_step.OptimizerConfig(**_stage_recipe(path)['optimizer'])
  got = checkpoint.restore(path / 'checkpoints', train_step.form(trained, opt, mesh))
  if got is None:
    raise BadInput(f'config.init_from={path}: the stage has no checkpoint')
  params = got[0].params
  return hf.merge_lora(trained, params) if trained.lora_rank else params


def past(origin: dict, cfg: transformer.ModelConfig) -> tuple[dict, dict]:
  """(columns of the cell, ledger) of what went into an origin; see the head of this file."""
  if origin['kind'] == 'postscale':
    done = json.loads((Path(origin['folder']) / 'done.json').read_text())
    cell, ledger = done['cell'], compute.add(*done['path'].values())
    tokens = cell['pretrain_tokens'] + cell.get('sft_tokens', 0)
    return {'pretrain_tokens': tokens, 'pretrain_source': 'counted'}, ledger
  if origin['tokens'] is None:
    return {'pretrain_tokens': 0, 'pretrain_source': 'unknown'}, compute.empty()
  ledger = compute.train(cfg, origin['tokens'], 0, 0, 0)  # no context: attention is left out
  columns = {'pretrain_tokens': round(origin['tokens']), 'pretrain_source': 'estimated'}
  return columns, ledger | {'executed': ledger['model']}
