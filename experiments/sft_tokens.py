"""SFT scaling: held-out loss and accuracy against SFT tokens and model size, at three seeds.

python run.py --config=experiments/sft_tokens.py --workdir=results/studies

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sft_tokens' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2, 3, 4)
  c.model.sizes = ('25k', '75k', '150k')
  return c
