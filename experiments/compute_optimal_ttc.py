"""Compute-optimal test time: the best strategy and k for each difficulty and each budget.

    python run.py --config=experiments/compute_optimal_ttc.py --workdir=results/test_time

Time: a minute from the scorers of best_of_n.py, else 4 from the base; base and all, 7.

Seen at seed 2, 75k, 128 problems x 64, pass@1 35.5 % (docs/results/test-time-strategies.png): the
likeliest of 16 solves 47.9 %, a vote of 16 45.1, REBASE 46.9, beam search 31.6, DVTS 30.1, the best
of 16 by the reward models 15 to 20, votes weighted by them 44 to 45; pass@16 is 83.5 %. AUC within
a problem .52 (outcome) and .48 (process), s.e. .03; over all .81 and .80. At the FLOPs of a vote of
8: chosen by difficulty 47.7 %, +5.8 points (+2.1 to +9.0) over the vote, +12.6 (+7.9 to +17.5) over
best-of-n, +0.5 (-3.2 to +2.8) over the best strategy and k for all problems.

An earlier base of the same seed, its rows packed otherwise, with pass@1 48 %, said the same: 59.1 %
by difficulty, +5.5 (+2.6 to +8.2), +10.7 and +0.9 (-1.2 to +2.8).
"""

from ml_collections import ConfigDict

from experiments import search
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('compute_optimal_ttc', arg)
  c = search.get_config(arg)
  c.name = 'compute_optimal_ttc' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome', 'process')
  c.search.strategies = ('beam(width=4)', 'dvts(width=4)', 'rebase', "revision(choose='majority')")
  return c
