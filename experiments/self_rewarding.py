"""Self-rewarding: does a policy get better by DPO on pairs that it chose itself?

    python run.py --config=experiments/self_rewarding.py --workdir=results/test_time

Four chains of three rounds from one SFT branch, each round on fresh samples of its policy, labelled
by its own verdict on a response, by a vote among its samples, by its own log-probability, and, for
comparison, by the verifier. The verifier on the test problems measures all of them.

Time: 3 min 40 s on 2 cores from the cached base.

Seen at seed 2, 75k, 128 test problems x 64; before, pass@1 35.5 % and pass@16 83.5 %; the rate was
chosen at seed 0 (docs/lab-log.md). Change of pass@1 after one and three rounds with its 95 %
interval, paired by problem, and of pass@16 after three:

    its own verdict     -1.1 points (-2.1 to -0.1)    -6.3 (-9.1 to -3.6)    -3.1 (-5.8 to -0.4)
    its likelihood      -0.1        (-0.6 to +0.4)    -0.7 (-1.7 to +0.2)    -2.6 (-4.3 to -1.2)
    a vote              -0.3        (-0.8 to +0.1)    -0.6 (-1.5 to +0.2)    -2.9 (-4.6 to -1.3)
    the verifier        -0.0        (-0.5 to +0.4)    +0.1 (-0.6 to +0.8)    -0.4 (-1.4 to +0.5)

No chain gains. The verifier's does no harm, votes and likelihood cost two to three points of
coverage, and a policy that learns from its own verdicts unlearns, round by round. At twenty times
the rate every chain falls, the verifier's too (by 15 points, the others by 17 to 33).
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('self_rewarding', arg)
  c = best_of_n.base(arg)
  c.name = 'self_rewarding' + ('_smoke' if arg else '')
  c.dpo.feedback = ('self', 'majority', 'likelihood', 'verifier')
  c.dpo.sizes = (c.model.sizes[-1],)
  c.model.sizes = c.dpo.sizes
  c.dpo.rounds = 3
  if arg:
    c.dpo.problems, c.dpo.n, c.dpo.rounds = 16, 8, 1
  return c
