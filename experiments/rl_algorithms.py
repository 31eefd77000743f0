"""Five ways to learn from the same number of rollouts: GRPO, Dr. GRPO, DAPO, RLOO, CISPO.

    python run.py --config=experiments/rl_algorithms.py --workdir=results/rl

Each starts from the same SFT branch, and its updates draw the same number of samples (DAPO draws
more prompts where a group has no variance: its FLOPs say how many), so accuracy is compared against
RL FLOPs. The rate is the one that DAPO was tuned with; it was not tuned for the others.

Time: 9 min 24 s on 2 cores from the base of rl_steps.py, which adds half a minute.

Seen at seeds 2 and 3, 75k, 80 updates of 512 samples, 64 test problems x 128: no change of pass@1,
4.9 % before, that two seeds could show: DAPO +0.7 points, CISPO +0.1, Dr. GRPO 0.0, GRPO -0.3, RLOO
-0.9, with 95 % intervals over problems and two seeds of 2 to 15 points to each side. Of the
policy's own samples the verifier passes, first and last ten updates: DAPO 4.7 and 6.6 %, CISPO 4.8
and 6.0, GRPO 4.8 and 5.6, Dr. GRPO 4.8 and 5.3, RLOO 4.8 and 5.2 (standard errors over two seeds
0.3 to 1.0). Over 190 updates and six seeds DAPO rises (rl_steps.py).
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
