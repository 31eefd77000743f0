"""Few samples of many prompts, or many of few? 512 samples an update, in groups of 4 to 64.

python run.py --config=experiments/group_size.py --workdir=results/rl
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms


def get_config(arg: str = '') -> ConfigDict:
  c = rl_algorithms.base(arg)
  c.name = 'group_size' + ('_smoke' if arg else '')
  sizes = ((4, 8), (8, 4)) if arg else ((128, 4), (32, 16), (8, 64))
  c.rl.runs = tuple(f'grpo(prompts={prompts}, group={group})' for prompts, group in sizes)
  return c
