"""The full crossed grid: every size x every SFT budget x every amount of RL, and its frontier.

    python run.py --config=experiments/frontier.py --workdir=results/studies

Time: 9 min on 2 cores that did other work too (697 s of CPU), after sft_tokens.py in the same
workdir, whose SFT stages it shares; about 4 minutes more alone.

Seen at seed 2: 60 updates of RL raise pass@1 over 4 of 15 SFT parents (by 0.8 to 1.2 points, all
with little SFT behind them) and change it beyond noise over no other; pass@32 falls over 3 of 15.
A joint beta-binomial law fitted below the largest size and budget misses pass@k of the six cells at
both by 4.1 points on average; the nearest fitted cell misses by 11.1, a law for each k by 7.5. The
best split for 100k queries, chosen on half of the problems and scored on the rest: 460 GFLOP, 25k
and majority of 2, 5.9 % solved (95 % 3.3 to 8.6); 1.8 TFLOP, 75k and majority of 4, 25.5 % (17.0 to
32.1); 6.5 TFLOP, 75k and majority of 32, 34.7 % (21.0 to 44.2). The larger the budget, the more of
it went to sampling: 38, 54 and 89 %.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('frontier', arg)
  c = quickstart.get_config(arg)
  c.name = 'frontier' + ('_smoke' if arg else '')
  if arg == 'smoke':
    return c
  c.model.sizes = ('25k', '75k', '150k')
  c.rl.sizes = c.model.sizes
  c.rl.sft_tokens = c.sft.tokens
  c.rl.algorithm, c.rl.updates = 'grpo', (10, 20, 30, 45, 60)
  c.rl.learning_rate, c.rl.warmup_steps = 1.5e-4, 0
  return c
