"""SFT scaling: held-out loss and accuracy against SFT tokens and model size, at three seeds.

    python run.py --config=experiments/sft_tokens.py --workdir=results/studies

Time: 10 min 43 s on 2 cores that did other work too (710 s of CPU).

Seen at seeds 2, 3 and 4, choices made at 0 and 1: held-out loss falls with tokens at all sizes and
with size at all budgets; 150k goes from 1.41 to 0.32 nats a response token from 90k to 1.4M tokens
(-1.09, 95 % -1.17 to -1.02). L(N, D) fitted without 150k at 1.4M tokens misses that loss by 6.9 %;
the nearest measured point by 6.0 %, so the law is no help there. pass@32 beyond k <= 8: a
beta-binomial misses by 1.4 points, exp(-a k^-b) by 11.8, pass@8 itself by 29.0.
"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
  c = quickstart.get_config(arg)
  c.name = 'sft_tokens' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2, 3, 4)
  c.model.sizes = ('25k', '75k', '150k')
  return c
