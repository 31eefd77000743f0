"""Rejection-sampling fine-tuning (RFT, 2308.01825): accuracy over the log of distinct paths.

    python run.py --config=experiments/rejection_sampling.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=rejection_sampling

The SFT branch answers prompts that nobody has solved; of the right answers one of each reasoning
path is kept, and the base is trained on them and on human solutions, half and half. More samples of
each problem find more paths, and paths of harder problems; more problems find more of any kind.

Time: 5 min 55 s on 2 cores from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64, pass@1 (human data alone 50.6 %; the SFT branch that drew
the samples 20.4 %):

    samples of each problem    512 problems    2,048         6,144
    1                          26.2 (183)      52.1 (745)
    4                                          47.4 (1,441)
    16                         30.8 (449)      44.6 (1,853)  44.7 (5,551)

in brackets distinct paths. Each doubling of paths is worth +4.0 points (95 % over problems +2.9 to
+5.1), and yet the line misses the run with the most by 15.4 points, of which the run with a third
of them misses none: what shows is that 183 and 449 paths, repeated to fill the budget, are too few,
and that from 745 on more do not help. RFT is not shown to beat human data (+1.5, -2.1 to +5.2, at
best; -6.0, -10.1 to -2.2, with the most samples of each problem). On a base before this one (24.8
and 8.4 %) slope and misses were +1.1 and 10.6. A sum of two terms has one path, so paths here are
problems solved; take a task with steps to count both.
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
