"""Compute-optimal test time: the best strategy and k for each difficulty and each budget.

    python run.py --config=experiments/compute_optimal_ttc.py --workdir=results/test_time

Time: 4 minutes on 2 cores, base and all; from the base 2, from the scorers of best_of_n.py 1 (by
the seconds of their stages).

Seen at seed 2, 75k, 128 problems x 64, pass@1 53.9 % (docs/results/test-time-strategies.png and
test-time-optimal.png): the likeliest of 16 solves 71.7 % (95 % 63.8 to 79.4), a vote of 16 68.4
(61.2 to 75.1), REBASE 67.6, DVTS 56.2, beam search 51.6, a vote of 16 revisions 52.4, the best of
16 by the reward models 27 to 30, votes weighted by them 68 to 69; pass@16 is 93.3 %. AUC within a
problem .52 (outcome) and .51 (process), s.e. .03; over all .82 and .81. At the FLOPs of a vote of
8: chosen by difficulty 69.4 %, +5.1 points (+1.2 to +9.2) over the vote, +14.9 (+10.2 to +20.0)
over best-of-n, -0.9 (-3.7 to +0.9) over the best strategy and k for all problems.
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
