"""Budget forcing: what is an answer worth after less thinking than the model wants, or more?

    python run.py --config=experiments/budget_forcing.py --workdir=results/test_time

Time: half a minute on 2 cores from a cached base (see best_of_n.py).

Seen at seed 2, 75k, which solves 53.1 % (95 % 46.3 to 59.4): it thinks for 7 to 11 tokens. At most
4 leaves 0.2 % of the problems solved, 8 12.3 % (7.8 to 17.6), 12 all of it. At least 8 costs
nothing (52.9 %), as 95 % of its responses think for so long; at least 12 leaves 3.9 %: what is
drawn where the answer should have been is no more thought.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('budget_forcing', arg)
  c = best_of_n.base(arg)
  c.name = 'budget_forcing' + ('_smoke' if arg else '')
  c.search.strategies = ("budget_forcing(force='most')", "budget_forcing(force='least')")
  c.search.policies = (c.model.sizes[-1],)
  c.search.response_tokens = 32
  c.search.budgets = (4, 12) if arg else (1, 4, 8, 12, 16, 20)
  c.search.runs = 1 if arg else 4
  return c
