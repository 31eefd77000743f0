"""RL scaling: accuracy against RL compute, from three SFT budgets, at three seeds.

python run.py --config=experiments/rl_steps.py --workdir=results/rl_steps

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'rl_steps'
  if arg == 'smoke':
    return c
  c.seeds = (0, 1, 2)
  c.model.sizes = ('75k',)
  c.sft.tokens = (131_072, 524_288)
  c.rl.sizes = c.model.sizes
  c.rl.sft_tokens = c.sft.tokens
  c.rl.updates = (5, 10, 20, 40, 60, 80, 120)
  return c
