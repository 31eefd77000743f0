"""Writes a model that a study trained as a Hugging Face checkpoint.

    python export.py results/quickstart/stages/sft-0123456789 models/mine

The stage is any of training (pretrain, sft, rl, dpo) that has ended. Adapters are merged; a
tokenizer that the study used is copied beside the weights. Of a checkpoint that the study began
from come the longest context, the ids of bos and padding, and generation_config.json; a response
ends at the stop token that was trained. `transformers` loads the folder, and so does
--config.init_from.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path

KEPT = ('max_position_embeddings', 'bos_token_id', 'pad_token_id')  # of a checkpoint's config.json
GENERATION = 'generation_config.json'


def export(stage: Path, folder: Path, dtype: str) -> None:
  """Writes the parameters of a finished stage into a new folder. BadInput where that cannot be."""
  from scaling import files, sharding
  from scaling.data import batches, subwords
  from scaling.errors import BadInput
  from scaling.model import hf
  from scaling.stages import origin
  from scaling.stages import stage as stages

  if not (stage / 'stage.json').is_file():
    raise BadInput(f'{stage}: no stage.json in it; name a folder of WORKDIR/stages')
  try:
    begun, cfg = origin.find(str(stage), None, dtype='float32')
    params = origin.load(begun, cfg, sharding.make_mesh())
  except BadInput as error:  # of a stage that a config would begin from
    raise BadInput(str(error).removeprefix('config.init_from=')) from None
  recipe = json.loads((stage / 'stage.json').read_text())['recipe']
  data = stages.data_folder(stage.parent.parent, recipe['data'])
  stop, kept, generation = batches.load(data).vocab.stop, {}, data / 'tokenizer' / GENERATION
  base = _began_from(stage)
  if base is not None:
    config = _read(base / 'config.json')
    kept = {key: config[key] for key in KEPT if config.get(key) is not None}
    generation = base / GENERATION if (base / GENERATION).is_file() else generation
  ends = {'eos_token_id': stop}
  hf.save(folder, cfg, params, dtype, more={'pad_token_id': stop} | kept | ends)
  if (data / 'tokenizer').is_dir():
    for file in subwords.files(data / 'tokenizer'):
      if not (folder / file.name).exists():  # the model's own config.json stays
        shutil.copyfile(file, folder / file.name)
  if generation.is_file():  # what transformers and vLLM ask first where a response ends
    files.write_json(folder / GENERATION, _read(generation) | ends)


def _began_from(stage: Path) -> Path | None:
  """The folder of the Hugging Face checkpoint that a stage's model began from, or None."""
  known = _read(stage / 'stage.json')
  begun = known['recipe'].get('origin')
  if begun is None:
    return _began_from(stage.parent / known['parent']) if known['parent'] else None
  folder = Path(begun['folder'])
  return folder if begun['kind'] == 'huggingface' else _began_from(folder)


def _read(path: Path) -> dict:
  from scaling.errors import BadInput

  try:
    return json.loads(path.read_text('utf-8'))
  except (OSError, ValueError) as error:
    raise BadInput(
      f'{path}: cannot be read ({error}): it says what the model began from, or what is kept of '
      'that: put the file back'
    ) from None


def main() -> None:
  os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # for a machine whose accelerator is at work
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('stage', type=Path, help='folder of a stage: WORKDIR/stages/ID')
  parser.add_argument('folder', type=Path, help='where the checkpoint goes; made')
  parser.add_argument(
    '--dtype', default='float32', choices=('float32', 'bfloat16', 'float16'), help='of the weights'
  )
  args = parser.parse_args()
  from scaling.errors import BadInput

  try:
    export(args.stage, args.folder, args.dtype)
  except BadInput as error:
    print(f'export.py: {error}', file=sys.stderr)
    sys.exit(2)
  print(f'The model: {args.folder}')


if __name__ == '__main__':
  main()
