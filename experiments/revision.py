"""Revision: attempts one after another, each shown the last, against as many side by side.

    python run.py --config=experiments/revision.py --workdir=results/test_time

Time: a minute on 2 cores from a cached base (see best_of_n.py).

Seen at seed 2, 75k, 128 problems x 3 runs: one attempt 53.6 % (95 % 46.9 to 59.9); the last of 2,
4, 8 turns 45.6, 41.1, 42.4 % (36.2 to 48.7; -11.2 points, -17.2 to -5.2), the majority of a chain
of 8 52.0 % (45.0 to 58.7; -1.6, -7.4 to +4.0), of 8 side by side 66.4 % (59.2 to 73.2). Its own
verdict picks 52.9, 43.5, 31.5 % of 2, 4, 8 attempts; weighted by it a vote of 8 is right for
67.2 %, 66.4 without. It was taught on mistakes that were made up: its own look otherwise.
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
