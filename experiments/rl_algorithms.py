"""Five ways to learn from the same number of rollouts: GRPO, Dr. GRPO, DAPO, RLOO, CISPO.

    python run.py --config=experiments/rl_algorithms.py --workdir=results/rl

Each starts from the same SFT branch, and its updates draw the same number of samples (DAPO draws
more prompts where a group has no variance: its FLOPs say how many), so accuracy is compared against
RL FLOPs. The rate is the one that DAPO was tuned with; it was not tuned for the others.

Time: 39 minutes on 2 cores that did much other work (17 minutes of CPU).

Seen at seeds 2 and 3, 75k, 80 updates of 512 samples, 64 test problems x 128: DAPO alone raises
pass@1, by +1.8 points (95 % +0.1 to +3.7); GRPO +0.8 (-0.6 to +2.9), CISPO +0.5 (-0.9 to +2.3),
RLOO -0.4 (-2.0 to +1.3), Dr. GRPO -1.3 (-2.7 to +0.2). Of the policy's own samples the verifier
passes, first and last ten updates: DAPO 4.0 and 6.4 %, RLOO 4.2 and 5.2, GRPO 4.2 and 4.2, CISPO
4.3 and 4.4, Dr. GRPO 4.3 and 3.5 (standard errors over two seeds 0.2 to 1.1). pass@32 falls over
four of five.
"""

from ml_collections import ConfigDict

from experiments import quickstart


def base(arg: str = '') -> ConfigDict:
  """One size and one SFT budget, that RL starts from: the base of the experiments on RL."""
  c = quickstart.get_config(arg)
  c.seeds = (0,) if arg else (2, 3)
  c.model.sizes = c.rl.sizes = ('25k',) if arg else ('75k',)
  c.sft.tokens = c.rl.sft_tokens = (36_864,) if arg else (393_216,)
  c.rl.updates = (2,) if arg else (40, 80)
  c.rl.learning_rate, c.rl.warmup_steps = 3e-4, 20
  return c


def get_config(arg: str = '') -> ConfigDict:
  c = base(arg)
  c.name = 'rl_algorithms' + ('_smoke' if arg else '')
  c.rl.runs = ('grpo', 'dr_grpo', 'dapo', 'rloo', 'cispo')
  return c
