"""Test-time scaling: coverage and majority vote up to 64 samples of a query.

    python run.py --config=experiments/sampling_budget.py --workdir=results/studies

Time: 85 s on 2 cores after sft_tokens.py in the same workdir, whose SFT stages it shares; about
2 minutes more alone.

Seen at seed 2, 64 problems x 256 samples, on the two devices of sft_tokens.py: fitted on k <= 16,
exp(-a k^-b) misses pass@64 by 14.1 points (RMSE over 10 banks), a beta-binomial of the banks
thinned to 16 samples a problem by 8.7, pass@16 itself by 29.7; b runs from 0.30 to 0.55. Choosing
gains less than coverage: with 100k queries the best split of 1.8 TFLOP is 75k and the likeliest of
4, 17.4 % solved (95 % 7.7 to 26.1), of 6.5 TFLOP the likeliest of 32, 19.2 % (8.2 to 32.2), where
pass@64 is 91 %.
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
