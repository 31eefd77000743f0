"""Search: is a process reward model better spent on steps, in a tree, than on whole responses?

    python run.py --config=experiments/search.py --workdir=results/test_time

Time: 1.5 minutes on 2 cores from a cached base and scorer (see best_of_n.py), with other work
beside it; nothing after compute_optimal_ttc.py, which has the same searches.

Seen at seed 2, 75k, pass@1 63.6 %: no. At k = 16 beam search solves 52.0 % (95 % 44.1 to 59.8),
DVTS 55.1 (46.9 to 62.5), REBASE 76.6 (69.5 to 83.2), a vote of 16 75.7 (69.7 to 82.0) for half of
the FLOPs. The scorer's AUC within a problem is .48 (s.e. .03): there is nothing to follow.

Earlier draws, of pass@1 36 and 48 %, said the same.
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
