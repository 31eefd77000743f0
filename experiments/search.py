"""Search: is a process reward model better spent on steps, in a tree, than on whole responses?

    python run.py --config=experiments/search.py --workdir=results/test_time

Time: half a minute to one on 2 cores from a cached base and scorer (see best_of_n.py; by the
seconds of the stages); nothing after compute_optimal_ttc.py, which has the same searches.

Seen at seed 2, 75k, pass@1 53.9 %: no. At k = 16 beam search solves 51.6 % (95 % 43.7 to 59.4),
DVTS 56.2 (48.4 to 64.5), REBASE 67.6 (59.8 to 74.6), a vote of 16 68.4 (61.2 to 75.1) for half of
the FLOPs. The scorer's AUC within a problem is .51 (s.e. .03): there is nothing to follow.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('search', arg)
  c = best_of_n.get_config(arg)
  c.name = 'search' + ('_smoke' if arg else '')
  policy = c.model.sizes[-1]
  c.scorers.objectives, c.scorers.sizes = ('process',), (policy,)
  c.search.strategies = ('beam(width=4)', 'dvts(width=4)', 'rebase')
  c.search.policies = (policy,)
  c.search.scorer = f'process {policy}'
  c.search.budgets = (4,) if arg else (4, 16)
  c.search.runs = 1 if arg else 2
  return c
