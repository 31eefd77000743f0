"""Self-consistency: how far does a majority vote go, and at what temperature?

    python run.py --config=experiments/self_consistency.py --workdir=results/test_time
    python run.py --config=experiments/self_consistency.py:0.5 --workdir=results/test_time

Time: half a minute on 2 cores from a cached base (see best_of_n.py).

Seen at seed 2, temperature 1, 75k, 128 problems x 256 samples: one sample 53.3 % (95 % 47.7 to
58.6); a vote of 4, 16, 64 61.8, 67.8, 70.2 % (63.3 to 77.2); the likeliest of so many 69.4, 71.4,
71.9 % (63.3 to 79.7); pass@64 99.5 %. 25k: one sample 6.1 %, a vote of 64 12.0 %, the likeliest
12.1 %, pass@64 92.5 %. Other temperatures were not run.
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
