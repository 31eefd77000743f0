"""Compute-optimal test time: the best strategy and k for each difficulty and each budget.

    python run.py --config=experiments/compute_optimal_ttc.py --workdir=results/test_time

Time: 1.5 minutes on 2 cores from the scorers of best_of_n.py, with other work beside it; else 3
from the base, base and all 6 (by the seconds of their stages).

Seen at seed 2, 75k, 128 problems x 64, pass@1 63.6 % (docs/results/test-time-strategies.png and
test-time-optimal.png): the likeliest of 16 solves 79.1 %, a vote of 16 75.7, REBASE 76.6, beam
search 52.0, DVTS 55.1, a vote of 16 revisions 39.5, the best of 16 by the reward models 36 to 38,
votes weighted by them 75 to 76; pass@16 is 93.8 %. AUC within a problem .46 (outcome) and .48
(process), s.e. .03; over all .76 and .67. At the FLOPs of a vote of 8: chosen by difficulty 77.6 %,
+5.5 points (+2.5 to +9.1) over the vote, +15.1 (+10.8 to +19.6) over best-of-n, -0.9 (-2.7 to +0.4)
over the best strategy and k for all problems.

Earlier draws, of pass@1 36 and 48 %, said the same.
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
