"""Five ways to learn from the same number of rollouts: GRPO, Dr. GRPO, DAPO, RLOO, CISPO.

    python run.py --config=experiments/rl_algorithms.py --workdir=results/rl

Each starts from the same SFT branch, and its updates draw the same number of samples (DAPO draws
more prompts where a group has no variance: its FLOPs say how many), so accuracy is compared against
RL FLOPs. The rate is the one that DAPO was tuned with; it was not tuned for the others.
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
