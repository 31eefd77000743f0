"""SFT scaling: held-out loss and accuracy against SFT tokens and model size.

python run.py --config=experiments/sft_tokens.py --workdir=results/sft_tokens

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sft_tokens'
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (0, 1, 2)
  c.model.sizes = ('25k', '75k', '150k', '400k')
  c.sft.tokens = (32_768, 65_536, 131_072, 262_144, 524_288, 1_048_576)
  return c
