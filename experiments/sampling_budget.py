"""Test-time scaling: coverage and majority vote up to 256 samples of a query.

python run.py --config=experiments/sampling_budget.py --workdir=results/sampling_budget

"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sampling_budget'
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (0, 1)
  c.model.sizes = ('25k', '150k')
  c.sft.tokens = (262_144, 1_048_576)
  c.data.test_problems = 128
  c.sample.n = 1024
  return c
