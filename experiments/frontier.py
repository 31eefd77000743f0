"""The full crossed grid: sizes x SFT budgets x amounts of RL, and its frontier.

    python run.py --config=experiments/frontier.py --workdir=results/studies

Time: 8 min 7 s on 2 cores after sft_tokens.py in the same workdir, whose SFT stages it shares;
about 2 minutes more alone.

Seen at seed 2: 60 updates of RL raise pass@1 over none of 15 SFT parents, and lower it over three
(25k after 370k and 740k tokens, 75k after 740k; by 0.3 to 1.0 points); majority@32 and pass@32 fall
over three each. On sums of one and two digits it had risen over four. A joint beta-binomial law
fitted below the largest size and budget misses pass@k of the six cells at both by 3.5 points on
average; the nearest fitted cell misses by 12.4, a law for each k by 6.7. The best split for 100k
queries, chosen on half of the problems and scored on the rest: 620 GFLOP, 25k and the likeliest of
4, 5.4 % solved (95 % 3.0 to 6.5); 3.0 TFLOP, 25k and the likeliest of 32, 7.7 % (3.8 to 10.5); 14
TFLOP, 150k after 740k tokens and the likeliest of 32, 9.4 % (4.5 to 15.2). None takes RL. The
larger the budget, the more of it went to sampling: 57, 90 and 95 %.
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
  c.model.sizes = c.rl.sizes = ('25k', '75k', '150k')
  c.sft.tokens = (*c.sft.tokens, 3_145_728)
  c.rl.sft_tokens = c.sft.tokens[-2:]  # from less RL gains nothing (docs/lab-log.md)
  c.rl.updates = (50, 150)
  return c
