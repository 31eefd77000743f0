"""What a bad verifier does: wrong answers accepted, right ones refused, at given rates.

    python run.py --config=experiments/verifier_noise.py --workdir=results/rl

The mistakes hang on (seed, update, problem, sample) alone, and those of a lower rate are among
those of a higher one. Every point is measured by the true verifier.

Time: 8 min 24 s on 2 cores from the base of rl_algorithms.py.

Seen at seeds 2 and 3, 75k, GRPO, 80 updates: right answers refused do no harm seen, wrong ones
accepted lean to harm. Of the policy's own samples the true verifier passes, first and last ten
updates, 4.8 and 5.6 % without mistakes, 4.6 and 5.1 with one in five right answers refused, 4.6 and
4.2 with one in five wrong answers accepted, 4.6 and 3.2 with both (standard errors of the change
over seeds .3, .8, .3, .3 points); pass@1 on 64 test problems, 4.9 % before, changes by -0.3, +0.1,
-2.3 and -2.4 points, of which the last alone is beyond noise over problems and two seeds (95 % -4.5
to -0.5). Where one sample in 20 is right, one in five wrong ones accepted makes most rewards false:
24 % are rewarded. GRPO does not learn here without mistakes either; dapo does.
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
