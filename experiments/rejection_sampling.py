"""Rejection-sampling fine-tuning (RFT, 2308.01825): accuracy over the log of distinct paths.

    python run.py --config=experiments/rejection_sampling.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=rejection_sampling

The SFT branch answers prompts that nobody has solved; of the right answers one of each reasoning
path is kept, and the base is trained on them and on human solutions, half and half. More samples of
each problem find more paths, and paths of harder problems; more problems find more of any kind.

Time: 5 min on 2 cores with other work beside it, from the base that synthetic_vs_human.py leaves.

Seen on sums of one and two digits (min_digits=1), before the task was changed:

Seen at seed 2, 75k, 128 problems x 64, pass@1 (human data alone 51.4 %; the SFT branch that drew
the samples 35.7 %):

    samples of each problem    512 problems    2,048         6,144
    1                          35.7 (306)      42.2 (1,262)
    4                                          47.9 (1,837)
    16                         46.3 (474)      45.9 (1,963)  42.8 (5,915)

in brackets distinct paths. All are below human data at equal tokens, beyond noise over problems: by
3.5 points (95 % 0.5 to 6.7) at best, by 5.5 (3.1 to 8.5) with 16 samples of each of 2,048 problems.
Each doubling of paths is worth +1.2 points (+0.4 to +2.1), but the line through the others misses
the run with the most by 8.2 points, the run with a third of its paths by 3.1: 474 paths are worth
as much as 5,915. On an earlier draw RFT was as good as human data at best (+1.5, -2.1 to +5.2).
A sum of two terms has one path, so paths here are problems solved; take a task with steps to count
both. Of the test problems 46 % are of a kind that nobody learns from (self_training.py), so 54 % is
about the most that any run can show.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('rejection_sampling', arg)
  c = self_training.base(arg)
  c.name = 'rejection_sampling' + ('_smoke' if arg else '')
  c.synthetic.runs = (
    'human', 'rft(n=1, problems=512)', 'rft(n=16, problems=512)', 'rft(n=1)', 'rft(n=4)',
    'rft(n=16)', 'rft(n=16, problems=6144)',
  )  # fmt: skip
  c.synthetic.tokens *= 1 if arg else 2
  if arg:
    c.synthetic.runs = ('human', 'rft(n=1)', 'rft(n=4)', 'rft(n=16)')
  return c
