"""Pretraining or SFT: what is a better base worth, at each budget of SFT tokens?

    python run.py --config=experiments/pretraining_tokens.py --workdir=results/studies
    python -m analysis.frontier results/studies --study=pretraining_tokens --pretraining=counted

A grid: tokens of pretraining by tokens of SFT, at one size. Every base is a run of its own, with
its own decay. The second command chooses among all measured splits, pretraining paid for.

Time: not yet run at this size.
"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'pretraining_tokens' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.model.sizes = ('25k',) if arg else ('75k',)
  c.pretrain.tokens = (4_608, 9_216) if arg else (65_536, 262_144, 1_048_576)
  c.sft.tokens = (9_216, 36_864) if arg else (98_304, 393_216, 1_572_864)
  return c
