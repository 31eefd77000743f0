"""Revision: attempts one after another, each shown the last, against as many side by side.

    python run.py --config=experiments/revision.py --workdir=results/test_time

Time: a minute on 2 cores from a cached base (see best_of_n.py), with other work beside it.

Seen at seed 2, 75k, 128 problems x 3 runs: one attempt 63.3 % (95 % 57.0 to 69.5); the last of 2,
4, 8 turns 43.5, 38.8, 32.6 % (25.8 to 39.3), the majority of a chain of 8 42.8 % (35.8 to 49.1), of
8 side by side 73.8 % (67.7 to 79.9). Its own verdict picks 62.2, 58.9, 52.3 % of 2, 4, 8 attempts;
weighted by it a vote of 8 is right for 73.2 %, as without. It was taught on mistakes that were made
up: its own look otherwise.

Earlier draws, where one attempt solved 36 and 49 %, said the same.
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
