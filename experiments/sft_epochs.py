"""Repeated data: held-out loss against SFT tokens, of which few or many are unique.

    python run.py --config=experiments/sft_epochs.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_epochs

Three budgets of unique tokens, each walked for up to as many tokens as the largest: 1 to 16 epochs
of the smallest, at three sizes. The data-constrained law (2305.16264) says what a repeated token is
worth; analysis.sft fits it beside laws that do not know of repetition.

Time: 7 min 46 s on 2 cores, its base included.

Seen at seed 2: 45 cells of 9 trunks. Held-out loss after 742k tokens, nats a response token,
standard error over problems .005 to .02:

    unique tokens    46,454 (16 epochs)    185,881 (4)    742,371 (1)
    25k                    0.813               0.698          0.610
    75k                    0.533               0.458          0.418
    150k                   0.658               0.485          0.432

16 epochs cost .12 to .23 and 4 epochs .04 to .09; but trunks that repeat nothing yet differ by up
to .17 at the same tokens, as their rows are others. The half-life R_D is not identified. With the
largest budget left out, the data-constrained law misses by 21.8 % (13.8 to 32.8), as a law that
knows of no repetition does; the nearest fitted cell misses by 36 %. With the largest size left out
8.8 % (6.0 to 20.9) and 12.3 (6.1 to 24.4), the nearest cell 8.3 %. In the corner, largest size and
budget, 30.8 % both, that cell 24 %. On a run before this one, with other packing, it was much the
same, but that 16 epochs had cost the two smaller sizes nothing that showed.
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
