"""Test-time scaling: coverage and majority vote up to 128 samples of a query, at two seeds.

python run.py --config=experiments/sampling_budget.py --workdir=results/studies

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sampling_budget' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2, 3)
  c.model.sizes = ('25k', '75k')
  c.sample.n = 512
  return c
