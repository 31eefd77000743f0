"""Self-consistency: how far does a majority vote go, and at what temperature?

    python run.py --config=experiments/self_consistency.py --workdir=results/test_time
    python run.py --config=experiments/self_consistency.py:0.5 --workdir=results/test_time

Time: a minute on 2 cores from a cached base (see best_of_n.py), with other work beside it.

Seen at seed 2, temperature 1, 75k, 128 problems x 256 samples: one sample 63.6 % (95 % 58.2 to
69.2); a vote of 4, 16, 64 70.5, 76.0, 78.4 % (72.1 to 84.7); the likeliest of so many 77.4, 78.9,
78.9 % (71.9 to 85.9); pass@64 97.4 %. 25k: one sample 8.1 %, a vote of 64 11.7 %, the likeliest
10.3 %, pass@64 92.2 %. Other temperatures were not run.

Earlier draws, where one sample of 75k solved 35 and 48 %, said the same.
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
