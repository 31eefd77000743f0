"""Few samples of many prompts, or many of few? 512 samples an update, in groups of 4 to 64.

    python run.py --config=experiments/group_size.py --workdir=results/rl

Time: 6 min 31 s on 2 cores from the base of rl_algorithms.py, which has its middle run too.

Seen at seeds 2 and 3, 75k, GRPO, 80 updates: two seeds show no difference. pass@1 on 64 test
problems, 4.9 % before, changes by +1.0 points with 128 prompts x 4, -0.3 with 32 x 16 and -0.9 with
8 x 64, and intervals over two seeds are 3 to 11 points to each side. Of the policy's own samples
the verifier passes, first and last ten updates, 4.1 and 5.3, 4.8 and 5.6, 5.3 and 4.5 % (standard
errors of the change over seeds .1, .3, 1.0 points). pass@32 leans down over all three (52.7 % to
42, 49 and 45 %).
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
