"""Test-time scaling: coverage and majority vote up to 64 samples of a query.

    python run.py --config=experiments/sampling_budget.py --workdir=results/studies

Time: 85 s on 2 cores after sft_tokens.py in the same workdir, whose SFT stages it shares; about
2 minutes more alone.

Seen at seed 2, 64 problems x 256 samples: fitted on k <= 16, exp(-a k^-b) misses pass@64 by 13.0
points (RMSE over 10 banks), a beta-binomial by 1.3, pass@16 itself by 29.8; b runs from 0.32 to
0.59. The vote gains less than coverage: with 100k queries the best split of 2.6 TFLOP is 75k and
majority of 8, 30.3 % solved (95 % 22.2 to 37.8), of 13 TFLOP majority of 64, 37.6 % (25.8 to 47.5).
"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sampling_budget' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2,)
  c.model.sizes = ('25k', '75k')
  c.sample.n = 256
  return c
