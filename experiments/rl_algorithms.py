"""Five ways to learn from the same number of rollouts: GRPO, Dr. GRPO, DAPO, RLOO, CISPO.

    python run.py --config=experiments/rl_algorithms.py --workdir=results/rl

Each starts from the same SFT branch, and its updates draw the same number of samples (DAPO draws
more prompts where a group has no variance: its FLOPs say how many), so accuracy is compared against
RL FLOPs. The rate is the default, which DAPO was tried with on seed 0 (docs/lab-log.md); it was not
tuned for the others.

Time: 9 min 30 s on 2 cores from the base of rl_steps.py, which adds one and a half.

Seen at seeds 2 and 3, 75k, 200 updates of 512 samples, 64 test problems x 128: no change of pass@1,
31.2 % before, that two seeds could show: DAPO +1.5 points (95 % over problems and seeds, -9.6 to
+12.6), GRPO +1.2 (-2.3 to +4.6), CISPO +1.0 (-1.0 to +2.9), Dr. GRPO +0.9 (-2.4 to +4.1), RLOO +0.3
(-4.8 to +5.4). Of the policy's own samples the verifier passes, first and last ten updates: DAPO
33.2 and 37.3 %, for 1.18 times the FLOPs, the others 33.5 and 35.1 to 35.3 (standard errors of the
change over two seeds 0.1 to 0.8). pass@32, 96.1 % before, leans down under all five, by 4.0 to 6.3
points. Over 600 updates and three seeds DAPO gains (rl_steps.py).
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def base(arg: str = '') -> ConfigDict:
  """One size and one SFT budget, that RL starts from: the base of the experiments on RL."""
  c = quickstart.get_config(arg)
  c.seeds = (0,) if arg else (2, 3)
  c.model.sizes = c.rl.sizes = ('25k',) if arg else ('75k',)
  c.sft.tokens = c.rl.sft_tokens = (36_864,) if arg else (3_145_728,)
  c.rl.updates = (2,) if arg else (100, 200)
  return c


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('rl_algorithms', arg)
  c = base(arg)
  c.name = 'rl_algorithms' + ('_smoke' if arg else '')
  c.rl.runs = ('grpo', 'dr_grpo', 'dapo', 'rloo', 'cispo')
  return c
