"""Few samples of many prompts, or many of few? 512 samples an update, in groups of 4 to 64.

    python run.py --config=experiments/group_size.py --workdir=results/rl

Time: 21 minutes on 2 cores that did much other work (9 minutes of CPU), from the base of
rl_algorithms.py, which has its middle run too.

Seen at seeds 2 and 3, 75k, GRPO, 80 updates: no difference beyond noise. pass@1 on 64 test problems
changes by -0.4 points (95 % -1.9 to +1.3) with 128 prompts x 4, +0.8 (-0.6 to +2.9) with 32 x 16,
-0.8 (-2.7 to +0.8) with 8 x 64; of the policy's own samples the verifier passes, first and last ten
updates, 3.5 and 4.6, 4.2 and 4.2, 4.3 and 3.7 % (standard errors .3, .8, 1.2 points). pass@32 falls
over all three.
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms


def get_config(arg: str = '') -> ConfigDict:
  c = rl_algorithms.base(arg)
  c.name = 'group_size' + ('_smoke' if arg else '')
  sizes = ((4, 8), (8, 4)) if arg else ((128, 4), (32, 16), (8, 64))
  c.rl.runs = tuple(f'grpo(prompts={prompts}, group={group})' for prompts, group in sizes)
  return c
