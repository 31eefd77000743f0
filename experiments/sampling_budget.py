"""Test-time scaling: coverage and majority vote up to 64 samples of a query.

    python run.py --config=experiments/sampling_budget.py --workdir=results/studies

Time: 55 s on 2 cores after sft_tokens.py in the same workdir, whose SFT stages it shares; about 1.5
minutes more alone.

Seen at seed 2, 64 problems x 256 samples: fitted on k <= 16, exp(-a k^-b) misses pass@64 by 18.0
points (RMSE over 10 banks), a beta-binomial of the banks thinned to 16 samples a problem by 0.6,
pass@16 itself by 33.5; b runs from 0.27 to 0.59. Choosing gains less than coverage: with 100k
queries the best split of 1.5 TFLOP is 25k and the likeliest of 16, 6.8 % solved (95 % 4.7 to 10.5),
of 4.9 TFLOP the likeliest of 64, 7.6 % (3.7 to 13.9), where pass@64 is 76 %. One seed: over the
three of sft_tokens.py the best split of 2.1 TFLOP is 75k and the likeliest of 4. On sums of one and
two digits 75k had been the best at this seed too, and the beta-binomial had missed by 8.7.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('sampling_budget', arg)
  c = quickstart.get_config(arg)
  c.name = 'sampling_budget' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2,)
  c.model.sizes = ('25k', '75k')
  c.sample.n = 256
  return c
