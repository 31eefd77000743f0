"""The full crossed grid: every size x every SFT budget x every amount of RL, and its frontier.

python run.py --config=experiments/frontier.py --workdir=results/studies

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'frontier' + ('_smoke' if arg else '')
  if arg == 'smoke':
    return c
  c.model.sizes = ('25k', '75k', '150k')
  c.rl.sizes = c.model.sizes
  c.rl.sft_tokens = c.sft.tokens
  return c
