"""Revision: attempts one after another, each shown the last, against as many side by side.

    python run.py --config=experiments/revision.py --workdir=results/test_time

Time: 2 minutes from a cached base (see best_of_n.py).

Seen at seed 2, 75k, 128 problems x 3 runs: one attempt 49 %; the last of 2, 4, 8 turns 39, 39, 37,
the majority of a chain of 8 42 %, of 8 side by side 55 %. Its own verdict picks 46, 43, 36 % of
2, 4, 8 attempts. It was taught on mistakes that were made up: its own look otherwise.

Seen again on a base whose rows are packed otherwise: one attempt 36 %; the last of 2, 4, 8 turns
29, 23, 19, the majority of a chain of 8 25 %, of 8 side by side 43 %; its own verdict picks 36, 31
and 25 % of 2, 4, 8.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('revision', arg)
  c = best_of_n.base(arg)
  c.name = 'revision' + ('_smoke' if arg else '')
  c.search.strategies = (
    "revision(choose='last')",
    "revision(choose='majority')",
    "self_verification(choose='best')",
    "self_verification(choose='weighted')",
  )
  c.search.policies = (c.model.sizes[-1],)
  c.search.budgets = (1, 2) if arg else (1, 2, 4, 8)
  c.search.runs = 1 if arg else 3
  return c
