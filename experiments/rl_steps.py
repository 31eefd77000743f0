"""RL scaling: accuracy against RL compute, from two SFT budgets, at three seeds.

    python run.py --config=experiments/rl_steps.py --workdir=results/studies

Time: 8 min 30 s on 2 cores that did other work too (590 s of CPU), after sft_tokens.py in the same
workdir, whose SFT stages it shares; about 4 minutes more alone.

Seen at seeds 2, 3 and 4, 120 updates, intervals over problems and seeds: pass@1 changes by +1.1
points (95 % -0.5 to +3.3) after 360k SFT tokens and +1.9 (-0.2 to +4.3) after 1.4M: no change
beyond noise, though both lean upward. majority@32 does not change beyond noise; pass@32 falls over
one of the two parents. RL took 60 % of all FLOPs.
"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'rl_steps' + ('_smoke' if arg else '')
  if arg == 'smoke':
    return c
  c.seeds = (2, 3, 4)
  c.model.sizes = ('75k',)
  c.rl.sizes = ('75k',)
  c.rl.updates = (10, 20, 30, 45, 60, 90, 120)
  return c
