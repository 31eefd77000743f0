"""Test-time scaling: coverage and majority vote up to 64 samples of a query.

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
  c.seeds = (2,)
  c.model.sizes = ('25k', '75k')
  c.sample.n = 256
  return c
