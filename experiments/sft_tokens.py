"""SFT scaling: held-out loss and accuracy against SFT tokens and model size, at three seeds.

    python run.py --config=experiments/sft_tokens.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_tokens --out=results/studies/sft.png

The second command compares the laws of SFT (multiplicative, additive, rectified, power) by what
they say of cells left out of their fit; the report has the same table.

Time: 6 min 1 s on 2 cores.

Seen at seeds 2, 3 and 4, choices made at 0 and 1: held-out loss falls with tokens at all sizes, and
with size at all budgets, beyond noise at three of five; 150k goes from 1.36 to 0.30 nats a response
token from 92k to 1.5M tokens (-1.06, 95 % -1.19 to -0.92), and at the most tokens it lies 0.26
below 25k (-0.54 to +0.01). pass@1 there is 3.0, 7.4 and 9.7 % from 25k to 150k, pass@16 35, 66 and
74 %. L(N, D) fitted without 150k at 1.5M tokens misses that loss by 3.1 %; the nearest measured
point by 19.3 %. The joint law, fitted to the 8 cells below both, misses pass@k of 150k at 1.5M
tokens by 0.3 points, the nearest cell by 16.3; all five values lie in its intervals. pass@16 from
k <= 4: a beta-binomial of the banks thinned to 4 samples a problem misses by 0.4 points,
exp(-a k^-b) by 10.2, pass@4 itself by 24.0.

A branch of a trunk is, to the bit, the run of its own warm-up, constant part and decay at its seed
(tests/stages/test_supervised.py). Against such runs at other seeds, pretraining included, 25k, 65k
tokens of pretraining, three seeds each, on sums of one and two digits: after 93k tokens 1.644
(branches) and 1.622 nats, standard deviation over seeds 0.10 and 0.12; after 186k 1.354 and 1.376,
0.04 and 0.05.

The laws, on these 45 cells of 9 trunks (95 % over resampled trunks; nearest: the fitted cell
nearest, the mean of its seeds):

    left out          multiplicative         additive               a size each      nearest
    largest budget    22.1 % (9.4 to 36.6)   21.4 % (12.2 to 28.5)  23.8 and 46.2 %  29.0 %
    largest size      14.9 % (13.1 to 55.3)  11.3 % (9.3 to 25.1)                    13.5 %
    corner            23.7 % (4.6 to 33.1)   13.1 % (2.4 to 17.4)                    41.8 %

A size each: power, rectified. Multiplicative less additive is within noise in all three; on sums of
one and two digits the multiplicative law had erred less, within noise too.
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
