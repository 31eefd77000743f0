"""Writes a model that a study trained as a Hugging Face checkpoint.

    python export.py results/quickstart/stages/sft-0123456789 models/mine

The stage is any of training (pretrain, sft, rl) that has ended. Adapters are merged; a tokenizer
that the study used is copied beside the weights. `transformers` loads the folder, and so does
--config.init_from.
"""

import argparse
import json
import os
import shutil
import sys
from pathlib import Path


def export(stage: Path, folder: Path, dtype: str) -> None:
  """Writes the parameters of a finished stage into a new folder. BadInput where that cannot be."""
  from scaling import sharding
  from scaling.data import batches, subwords
  from scaling.errors import BadInput
  from scaling.model import hf
  from scaling.stages import origin
  from scaling.stages import stage as stages

  if not (stage / 'stage.json').is_file():
    raise BadInput(f'{stage}: no stage.json in it; name a folder of WORKDIR/stages')
  begun, cfg = origin.find(str(stage), None, dtype='float32')
  recipe = json.loads((stage / 'stage.json').read_text())['recipe']
  data = stages.data_folder(stage.parent.parent, recipe['data'])
  stop = batches.load(data).vocab.stop
  params = origin.load(begun, cfg, sharding.make_mesh())
  hf.save(folder, cfg, params, dtype, more={'eos_token_id': stop, 'pad_token_id': stop})
  if (data / 'tokenizer').is_dir():
    for file in subwords.files(data / 'tokenizer'):
      if not (folder / file.name).exists():  # the model's own config.json stays
        shutil.copyfile(file, folder / file.name)


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
