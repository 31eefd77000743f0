"""Repeated data: held-out loss against SFT tokens, of which few or many are unique.

    python run.py --config=experiments/sft_epochs.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_epochs

Three budgets of unique tokens, each walked for up to as many tokens as the largest: 1 to 16 epochs
of the smallest, at three sizes. The data-constrained law (2305.16264) says what a repeated token is
worth; analysis.sft fits it beside laws that do not know of repetition.

Time: about 8 minutes of CPU, the drawing of problems included.

Seen at seed 2: 45 cells of 9 trunks. Held-out loss after 742k tokens, nats a response token,
standard error over problems .02 to .03:

    unique tokens    46,395 (16 epochs)    185,962 (4)    742,409 (1)
    25k                    0.891               0.839          0.833
    75k                    0.539               0.430          0.525
    150k                   0.581               0.483          0.442

16 epochs cost the largest model .14 and the smaller ones nothing that shows: trunks that repeat
nothing yet differ by up to .15 at the same tokens, as their rows are others. 4 epochs cost .04 at
150k, and nothing below it. The half-life R_D is not identified. With the largest budget left out,
the data-constrained law misses by 16.0 % (11.1 to 31.6), as a law that knows of no repetition does
(16.0 %, 10.7 to 36.4); the nearest fitted cell misses by 33 %. With the largest size left out 9.9
and 10.0 %, the nearest cell 13.1 %. In the corner, largest size and budget, no law is better than
that cell (38 against 32 %).
"""

from ml_collections import ConfigDict

from experiments import quickstart


def get_config(arg: str = '') -> ConfigDict:
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
