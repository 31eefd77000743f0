"""Self-consistency: how far does a majority vote go, and at what temperature?

    python run.py --config=experiments/self_consistency.py --workdir=results/test_time
    python run.py --config=experiments/self_consistency.py:0.5 --workdir=results/test_time

Time: a minute from a cached base (see best_of_n.py).

Seen at seed 2, temperature 1, 75k, 128 problems x 256 samples: one sample 48 %, a vote of 4, 16, 64
53, 57, 60 %; the likeliest of so many 58, 59, 59 %; pass@64 97 %. Other temperatures were not run.

Seen again on a base whose rows are packed otherwise, pass@1 35 %: a vote of 4, 16, 64 40, 45, 47 %;
the likeliest of so many 46, 48, 48 %; pass@64 96 %.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  c = best_of_n.base(arg if arg == 'smoke' else '')
  c.name = 'self_consistency' + (f'_{arg}'.replace('.', '') if arg else '')
  if arg == 'smoke':
    return c
  try:
    c.sample.temperature = float(arg or 1)
  except ValueError:
    raise BadInput(f"experiments/self_consistency.py:{arg}: 'smoke', or a temperature") from None
  c.sample.n = 256
  return c
