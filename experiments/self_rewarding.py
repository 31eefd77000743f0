"""Self-rewarding: does a policy get better by DPO on pairs that it chose itself?

    python run.py --config=experiments/self_rewarding.py --workdir=results/test_time

Four chains of three rounds from one SFT branch, each round on fresh samples of its policy, labelled
by its own verdict on a response, by a vote among its samples, by its own log-probability, and, for
comparison, by the verifier. The verifier on the test problems measures all of them.

Time: 2 min 11 s on 2 cores from the cached base.

Seen at seed 2, 75k, 128 test problems x 64; before, pass@1 53.9 % and pass@16 93.3 %; the rate was
chosen at seed 0 (docs/lab-log.md). Change of pass@1 after one and three rounds with its 95 %
interval, paired by problem, and of pass@16 after three:

    its own verdict     -0.2 points (-0.9 to +0.5)    -3.8 (-6.2 to -1.5)    +0.1 (-0.6 to +1.0)
    its likelihood      -0.2        (-0.7 to +0.3)    -1.1 (-2.1 to -0.0)    -0.2 (-0.7 to +0.2)
    a vote              -0.3        (-0.9 to +0.2)    -0.7 (-1.6 to +0.2)    +0.2 (-0.3 to +0.7)
    the verifier        +0.1        (-0.4 to +0.5)    -0.2 (-1.1 to +0.6)    +0.2 (-0.1 to +0.6)

No chain gains, the verifier's neither. A policy that learns from its own verdicts unlearns, round
by round. On sums of one and two digits votes and likelihood had cost three points of coverage;
here none does.
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
