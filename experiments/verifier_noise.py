"""What a bad verifier does: wrong answers accepted, right ones refused, at given rates.

    python run.py --config=experiments/verifier_noise.py --workdir=results/rl

The mistakes hang on (seed, update, problem, sample) alone, and those of a lower rate are among
those of a higher one. Every point is measured by the true verifier.

Time: 6 min 54 s on 2 cores from the base of rl_algorithms.py.

Seen at seeds 2 and 3, 75k, GRPO, 200 updates: right answers refused do no harm seen, wrong ones
accepted lean to harm. Of the policy's own samples the true verifier passes, first and last ten
updates, 33.6 and 35.2 % without mistakes, 33.6 and 34.9 with one in five right answers refused,
33.6 and 34.2 with one in five wrong answers accepted, 33.5 and 33.9 with both (standard errors of
the change over seeds .6, .4, .2, .5 points); pass@1 on 64 test problems, 31.2 % before, changes by
+1.2, +1.1, -0.5 and -0.3 points, none beyond noise over problems and two seeds. One in five wrong
answers accepted rewards 47 % where 34 % are right.
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('verifier_noise', arg)
  c = rl_algorithms.base(arg)
  c.name = 'verifier_noise' + ('_smoke' if arg else '')
  rates = ((0.0, 0.0), (0.3, 0.0)) if arg else ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.2, 0.2))
  c.rl.runs = tuple(
    f'grpo(false_positive={accepted}, false_negative={refused})' for accepted, refused in rates
  )
  return c
