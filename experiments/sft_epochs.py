"""Repeated data: held-out loss against SFT tokens, of which few or many are unique.

    python run.py --config=experiments/sft_epochs.py --workdir=results/studies
    python -m analysis.sft results/studies --study=sft_epochs

Three budgets of unique tokens, each walked for up to as many tokens as the largest: 1 to 16 epochs
of the smallest, at three sizes. The data-constrained law (2305.16264) says what a repeated token is
worth; analysis.sft fits it beside laws that do not know of repetition.

Time: planned as 23 minutes where a matmul ran at a fifth of an idle core's rate, so some 5 on two
idle cores; not yet run at this size.

Seen smaller, at one seed (2): 25k and 75k, 24,576 to 393,216 tokens, of which 24,576, 98,304 or
393,216 are unique; 30 cells of 6 trunks. Held-out loss after 372k tokens, nats a response token,
standard error over problems about 0.02:

    unique tokens    23,241 (16 epochs)    93,071 (4)    372,116 (1)
    25k                    1.270               1.319          1.374
    75k                    1.003               0.890          0.789

Repetition costs the larger model 0.10 at 4 epochs and 0.21 at 16; of the smaller one nothing is
seen beyond what seeds differ by (about 0.05, experiments/sft_tokens.py). Fitted below the most
tokens, no law is good there: the rectified one, a size each, misses by 11.2 %, power laws and the
data-constrained one by 23 %, multiplicative by 27.9 %; the nearest fitted cell by 32 to 35 %. The
half-life R_D is not identified: at these budgets losses fall faster and faster in log tokens, which
no sum of powers does.
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
