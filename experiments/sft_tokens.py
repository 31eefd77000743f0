"""SFT scaling: held-out loss and accuracy against SFT tokens and model size, at three seeds.

    python run.py --config=experiments/sft_tokens.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_tokens --out=results/studies/sft.png

The second command compares the laws of SFT (multiplicative, additive, rectified, power) by what
they say of cells left out of their fit; the report has the same table.

Time: 11 min on 2 cores with other work beside it.

Seen at seeds 2, 3 and 4, choices made at 0 and 1: held-out loss falls with tokens at all sizes, and
with size at all budgets, beyond noise at three of five; 150k goes from 1.39 to 0.25 nats a response
token from 92k to 1.5M tokens (-1.14, 95 % -1.27 to -1.01), and at the most tokens it lies 0.34
below 25k (-0.71 to +0.02). L(N, D) fitted without 150k at 1.5M tokens misses that loss by 11.7 %;
the nearest measured point by 24.5 %. The joint law, fitted to the 8 cells below both, misses pass@k
of 150k at 1.5M tokens by 2.0 points, the nearest cell by 16.1; all five values lie in its
intervals. pass@16 from k <= 4: a beta-binomial of the banks thinned to 4 samples a problem misses
by 1.9 points, exp(-a k^-b) by 8.7, pass@4 itself by 24.7. On an earlier draw the loss law was no
better than the nearest point (6.9 and 6.0 %).

A branch of a trunk is, to the bit, the run of its own warm-up, constant part and decay at its seed
(tests/stages/test_supervised.py). Against such runs at other seeds, pretraining included, 25k, 65k
tokens of pretraining, three seeds each: after 93k tokens 1.644 (branches) and 1.622 nats, standard
deviation over seeds 0.10 and 0.12; after 186k 1.354 and 1.376, 0.04 and 0.05.

The laws, on these 45 cells of 9 trunks (95 % over resampled trunks; nearest: the fitted cell
nearest, the mean of its seeds):

    left out          multiplicative         additive               a size each      nearest
    largest budget    28.6 % (15.3 to 50.1)  39.3 % (20.1 to 58.6)  30.5 and 41.0 %  53.0 %
    largest size      20.6 % (15.0 to 39.7)  27.7 % (10.0 to 37.3)                   22.0 %
    corner            42.4 % (13.0 to 65.8)  47.6 % (15.4 to 74.9)                   77.4 %

A size each: power, rectified. Additive less multiplicative is within noise in all three.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('sft_tokens', arg)
  c = quickstart.get_config(arg)
  c.name = 'sft_tokens' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    return c
  c.seeds = (2, 3, 4)
  c.model.sizes = ('25k', '75k', '150k')
  c.sample.n = c.sample.block_samples = 64
  c.sample.block_prompts = 8
  return c
