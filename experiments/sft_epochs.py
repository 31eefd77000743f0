"""Repeated data: held-out loss against SFT tokens, of which few or many are unique.

    python run.py --config=experiments/sft_epochs.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_epochs

Three budgets of unique tokens, each walked for up to as many tokens as the largest: 1 to 16 epochs
of the smallest, at three sizes. The data-constrained law (2305.16264) says what a repeated token is
worth; analysis.sft fits it beside laws that do not know of repetition.

Time: 3 min 29 s on 2 cores after sft_tokens.py in the same workdir, whose bases it shares; about a
minute more alone.

Seen at seed 2: 45 cells of 9 trunks. Held-out loss after 740k tokens, nats a response token,
standard error over problems .003 to .007:

    unique tokens    46,214 (16 epochs)    185,074 (4)    740,002 (1)
    25k                    0.626               0.637          0.604
    75k                    0.479               0.506          0.461
    150k                   0.441               0.421          0.428

16 epochs cost .01 to .02 and 4 epochs -.01 to .05; trunks that repeat nothing yet differ by up to
.08 at the same tokens, as their rows are others. So repetition shows no cost here, where on sums of
one and two digits 16 epochs had cost .12 to .23. The half-life R_D is not identified. With the
largest budget left out, the data-constrained law misses by 38.7 % (32.3 to 51.2), as a law that
knows of no repetition does, and as the nearest fitted cell does (39.2 %); power laws, one a size,
miss by 27.0 %. With the largest size left out the data-constrained law misses by 17.6 % (14.2 to
29.6), the multiplicative one by 16.6 (12.8 to 30.0), the nearest cell by 14 %. In the corner,
largest size and budget, 52.7 and 46.0 %, that cell 48 %.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('sft_epochs', arg)
  c = quickstart.get_config(arg)
  c.name = 'sft_epochs' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  if arg == 'smoke':
    c.sft.unique_tokens = (9_216, 36_864)
    return c
  c.model.sizes = ('25k', '75k', '150k')
  c.sft.tokens = (49_152, 98_304, 196_608, 393_216, 786_432)
  c.sft.unique_tokens = (49_152, 196_608, 786_432)
  c.sample.n = 32  # the loss is what is asked for
  c.sample.block_samples = 32
  return c
