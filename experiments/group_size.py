"""Few samples of many prompts, or many of few? 512 samples an update, in groups of 4 to 64.

    python run.py --config=experiments/group_size.py --workdir=results/rl

Time: 6 min 6 s on 2 cores from the base of rl_algorithms.py.

Seen at seeds 2 and 3, 75k, GRPO, 200 updates: many prompts lead. Of the policy's own samples the
verifier passes, first and last ten updates, 32.3 and 38.7 % with 128 prompts x 4, 33.6 and 35.2
with 32 x 16, 31.9 and 31.9 with 8 x 64 (standard errors of the change over seeds .3, .6, .2
points). pass@1 on 64 test problems, 31.2 % before, changes by +2.8 points (95 % over problems and
two seeds, +0.5 to +4.9), +1.2 (-2.3 to +4.6) and +1.1 (-15.8 to +18.1), after 100 updates by +2.3,
+1.9 and -2.6. pass@32, 96.1 % before, leans down over all three, by 4.0 to 4.4 points.
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('group_size', arg)
  c = rl_algorithms.base(arg)
  c.name = 'group_size' + ('_smoke' if arg else '')
  sizes = ((4, 8), (8, 4)) if arg else ((128, 4), (32, 16), (8, 64))
  c.rl.runs = tuple(f'grpo(prompts={prompts}, group={group})' for prompts, group in sizes)
  return c
