"""DPO: offline against iterated, with the verifier and with a reward model to say what is better.

    python run.py --config=experiments/dpo.py --workdir=results/test_time
    python run.py --config=experiments/dpo.py:offline --workdir=results/test_time

Iterated: three rounds, each on fresh samples of its policy, and of the reward model, which goes on
learning from them. Offline: three epochs over the samples of the SFT branch.

Time: 2 min 3 s on 2 cores from the base of self_rewarding.py, which has the verifier's chain too;
offline 42 s more.

Seen at seed 2, 75k, 128 test problems x 64; before, pass@1 53.9 % and pass@16 93.3 %; the rate was
chosen at seed 0 (docs/lab-log.md). Change of pass@1 and of pass@16 with 95 % intervals, paired by
problem:

    verifier         round 1   +0.1 points (-0.4 to +0.5)    +0.2 (-0.0 to +0.5)
                     round 3   -0.2        (-1.1 to +0.6)    +0.2 (-0.1 to +0.6)
                     offline   -0.6        (-1.4 to +0.4)    +0.6 (+0.1 to +1.1)
    outcome 75k      round 1   -0.4        (-0.9 to +0.1)    -0.3 (-0.8 to +0.2)
                     round 3   -2.3        (-3.9 to -0.9)    -0.6 (-1.3 to +0.2)
                     offline   -1.8        (-3.0 to -0.6)    -0.5 (-1.5 to +0.5)

DPO gains nothing on this base at the first try: right verdicts do no harm, a reward model costs two
points, with fresh samples and old ones alike.
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('dpo', arg, ('smoke', 'offline'))
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
