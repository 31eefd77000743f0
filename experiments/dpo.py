"""DPO: offline against iterated, with the verifier and with a reward model to say what is better.

    python run.py --config=experiments/dpo.py --workdir=results/test_time
    python run.py --config=experiments/dpo.py:offline --workdir=results/test_time

Iterated: three rounds, each on fresh samples of its policy, and of the reward model, which goes on
learning from them. Offline: three epochs over the samples of the SFT branch.

Time: not run at this size; self_rewarding.py has what was seen of the verifier's rounds at a small
one.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke', 'offline'):
    raise BadInput(f"experiments/dpo.py:{arg}: 'smoke', or 'offline'")
  smoke = arg == 'smoke'
  c = best_of_n.base('smoke' if smoke else '')
  c.name = 'dpo' + (f'_{arg}' if arg else '')
  c.model.sizes = (c.model.sizes[-1],)
  c.dpo.sizes = c.scorers.sizes = c.scorers.policies = c.model.sizes
  c.scorers.objectives, c.scorers.n, c.scorers.epochs = ('outcome',), 8, 3.0
  c.scorers.learning_rate = 2e-3
  c.dpo.feedback = ('verifier', f'outcome {c.model.sizes[0]}')
  c.dpo.rounds, c.dpo.epochs = (1, 3.0) if arg == 'offline' else (3, 1.0)
  if smoke:
    c.dpo.problems, c.dpo.n, c.dpo.rounds = 16, 8, 2
  return c
