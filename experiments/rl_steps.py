"""RL scaling: accuracy against RL compute, from two SFT budgets, at three seeds.

python run.py --config=experiments/rl_steps.py --workdir=results/studies

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'rl_steps' + ('_smoke' if arg else '')
  if arg == 'smoke':
    return c
  c.seeds = (2, 3, 4)
  c.model.sizes = ('75k',)
  c.rl.sizes = ('75k',)
  c.rl.updates = (10, 20, 30, 45, 60, 90, 120)
  return c
