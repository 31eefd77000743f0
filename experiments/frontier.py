"""The full crossed grid: sizes x SFT budgets x amounts of RL, and its frontier.

    python run.py --config=experiments/frontier.py --workdir=results/studies

Time: 7 min 12 s on 2 cores after sft_tokens.py in the same workdir, whose SFT stages it shares;
about 2 minutes more alone.

Seen at seed 2 (docs/results/frontier.png). The best split for 100k queries, chosen on half of the
64 problems and scored on the rest: 590 GFLOP, 25k after 1.5M SFT tokens and the likeliest of 4,
5.4 % solved (95 % 3.4 to 6.8); 2.6 TFLOP, 75k after 3.0M and the likeliest of 4, 57.4 % (48.1 to
66.7); 12 TFLOP, 150k after 3.0M, 150 updates of RL and the likeliest of 16, 95.9 % (90.6 to 100),
of which 24, 18 and 58 % are SFT, RL and sampling. Near 100 % splits with and without RL are hard to
tell: halves of the problems chose one of the three shown in 31 % of draws or more.

150 updates of RL raise pass@1 over one of six SFT parents, the best of them (150k after 3.0M,
+2.6 points, +0.7 to +4.8), and change it over no other beyond noise (75k after 3.0M +1.4, -0.3 to
+3.2; 25k -0.6 and +0.3, parents of 1.5M -0.5 to +0.3); pass@32 falls over four. The skill comes
between 1.5M and 3.0M tokens (150k 7.4 to 87.6 %), in the second walk of the pool, and nothing
fitted before foretells it: the loss law misses 150k at 3.0M by 291 % (nearest point 224), the
joint law pass@k of the three cells at both by 47.5 points (nearest cell 64.6).
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
