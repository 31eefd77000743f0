"""What a bad verifier does: wrong answers accepted, right ones refused, at given rates.

    python run.py --config=experiments/verifier_noise.py --workdir=results/rl

The mistakes hang on (seed, update, problem, sample) alone, and those of a lower rate are among
those of a higher one. Every point is measured by the true verifier.

Time: 18 minutes on 2 cores that did much other work (9 minutes of CPU), from the base of
rl_algorithms.py, which has the run without mistakes too.

Seen at seeds 2 and 3, 75k, GRPO, 80 updates: right answers refused do no harm seen, wrong ones
accepted lean to harm. Of the policy's own samples the true verifier passes, first and last ten
updates, 4.2 and 4.2 % without mistakes, 4.2 and 4.9 with one in five right answers refused, 4.2 and
3.2 with one in five wrong answers accepted, 4.1 and 3.0 with both (standard errors .8, .2, .6, .7
points); pass@1 on 64 test problems changes by +0.8 (95 % -0.6 to +2.9), 0.0 (-1.3 to +1.8), -1.3
(-3.2 to +0.3) and -1.0 points (-2.7 to +0.5): none beyond noise. Where one sample in 25 is right,
one in five wrong ones accepted makes most rewards false: 24 % are rewarded. GRPO does not learn
here without mistakes either; dapo does.
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms


def get_config(arg: str = '') -> ConfigDict:
  c = rl_algorithms.base(arg)
  c.name = 'verifier_noise' + ('_smoke' if arg else '')
  rates = ((0.0, 0.0), (0.3, 0.0)) if arg else ((0.0, 0.0), (0.2, 0.0), (0.0, 0.2), (0.2, 0.2))
  c.rl.runs = tuple(
    f'grpo(false_positive={accepted}, false_negative={refused})' for accepted, refused in rates
  )
  return c
