"""Search: is a process reward model better spent on steps, in a tree, than on whole responses?

    python run.py --config=experiments/search.py --workdir=results/test_time

Time: a minute from a cached base and scorer (see best_of_n.py).

Seen at seed 2, 75k: no. At k = 16 beam search solves 49 %, DVTS 48, REBASE 54, one sample 48, a
vote of 16 57 % for half of the FLOPs. The scorer's AUC within a problem is .49: there is nothing to
follow.

Seen again on a base whose rows are packed otherwise, pass@1 36 %: beam search 32 %, DVTS 30, REBASE
47, a vote of 16 45; AUC within a problem .48 (s.e. .03).
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
