"""The full crossed grid: every size x every SFT budget x every amount of RL, and its frontier.

python run.py --config=experiments/frontier.py --workdir=results/frontier

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'frontier'
  if arg == 'smoke':
    return c
  c.seeds = (0,)
  c.model.sizes = ('25k', '75k', '150k', '400k')
  c.sft.tokens = (131_072, 262_144, 524_288, 1_048_576)
  c.rl.sizes = c.model.sizes
  c.rl.sft_tokens = c.sft.tokens
  c.rl.updates = (10, 20, 40)
  return c
