"""Compute-optimal test time: the best strategy and k for each difficulty and each budget.

    python run.py --config=experiments/compute_optimal_ttc.py --workdir=results/test_time

Time: a minute from the scorers of best_of_n.py, else 4 from the base.

Seen at seed 2, 75k, at the FLOPs of a majority vote of 8: chosen by difficulty 59.1 %, +5.5 points
(+2.6 to +8.2) over the vote, +10.7 over best-of-n, +0.9 (-1.2 to +2.8) over the best strategy and k
for all problems, which is the likeliest of 8.
"""

from ml_collections import ConfigDict

from experiments import search


def get_config(arg: str = '') -> ConfigDict:
  c = search.get_config(arg)
  c.name = 'compute_optimal_ttc' + ('_smoke' if arg else '')
  c.scorers.objectives = ('outcome', 'process')
  c.search.strategies = ('beam(width=4)', 'dvts(width=4)', 'rebase', "revision(choose='majority')")
  return c
