"""DPO: offline against iterated, with the verifier and with a reward model to say what is better.

    python run.py --config=experiments/dpo.py --workdir=results/test_time
    python run.py --config=experiments/dpo.py:offline --workdir=results/test_time

Iterated: three rounds, each on fresh samples of its policy, and of the reward model, which goes on
learning from them. Offline: three epochs over the samples of the SFT branch.

Time: 5 minutes of CPU from the cached base, offline 1.3.

Seen at seed 2, 75k, 128 test problems x 64; before, pass@1 16.5 % and pass@16 76.8 %. Change of
pass@1 with its 95 % interval, paired by problem, and pass@16:

    verifier         round 1   +0.1 points (-1.8 to +2.1)    68.4 %
                     round 3   -5.6        (-8.2 to -3.1)    48.6 %
                     offline   -5.1        (-8.0 to -2.2)    50.7 %
    outcome 75k      round 1   -2.1        (-4.2 to -0.1)    67.0 %
                     round 3   -7.3        (-10.2 to -4.4)   52.7 %
                     offline   -6.7        (-10.1 to -3.2)   34.8 %

DPO loses here, by fresh samples no less than by old ones, and by right verdicts nearly as much as
by a reward model: the first round is harmless, each further one costs. Coverage falls with it. beta
and the rate were not tuned.
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
