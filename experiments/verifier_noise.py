"""What a bad verifier does: wrong answers accepted, right ones refused, at given rates.

    python run.py --config=experiments/verifier_noise.py --workdir=results/rl

The mistakes hang on (seed, update, problem, sample) alone, and those of a lower rate are among
those of a higher one. Every point is measured by the true verifier.
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
