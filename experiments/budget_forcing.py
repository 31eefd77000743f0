"""Budget forcing: what is an answer worth after less thinking than the model wants, or more?

    python run.py --config=experiments/budget_forcing.py --workdir=results/test_time

Time: a minute from a cached base (see best_of_n.py).

Seen at seed 2, 75k: it thinks for 5 to 11 tokens. At most 4 leaves 2 % of the problems solved, 8
20 %, 12 all of its 46 %. At least 8 costs 9 points, at least 12 all but 4 %: what is drawn where
the answer should have been is no more thought.

Seen again on a base whose rows are packed otherwise, which solves 34 %: at most 4 tokens 3 %, 8
12 %, 12 all of it; at least 8 29 %, at least 12 4 %.
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
