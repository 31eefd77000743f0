"""Budget forcing: what is an answer worth after less thinking than the model wants, or more?

    python run.py --config=experiments/budget_forcing.py --workdir=results/test_time

Time: half a minute on 2 cores from a cached base (see best_of_n.py), with other work beside it.

Seen at seed 2, 75k, which solves 60.0 % (95 % 53.7 to 66.0): it thinks for 5 to 11 tokens. At most
4 leaves 4.9 % of the problems solved, 8 31.6 % (25.2 to 38.1), 12 all of it. At least 8 costs 15
points (45.1 %, 37.9 to 52.0), 27 of one-digit sums, which need fewer, and 5 of two-digit ones; at
least 12 leaves 12.1 %: what is drawn where the answer should have been is no more thought.

Earlier draws, which solved 34 and 46 %, said the same.
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
