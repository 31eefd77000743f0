"""Rejection-sampling fine-tuning (RFT, 2308.01825): accuracy over the log of distinct paths.

    python run.py --config=experiments/rejection_sampling.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=rejection_sampling

The SFT branch answers prompts that nobody has solved; of the right answers one of each reasoning
path is kept, and the base is trained on them and on human solutions, half and half. More samples of
each problem find more paths, and paths of harder problems; more problems find more of any kind.

Time: 3 min on 2 cores, from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64, pass@1 (human data alone 70.4 %; the SFT branch that drew
the samples 32.1 %):

    samples of each problem    512 problems    2,048         6,144
    1                          60.1 (177)      82.2 (690)
    4                                          68.9 (1,374)
    16                         57.2 (443)      71.1 (1,836)  53.9 (5,491)

in brackets distinct paths. Over human data at equal tokens one sample of each of 2,048 problems has
+11.8 points (95 % over problems +7.4 to +16.4), 4 and 16 of each are within noise (-1.5, -6.2 to
+3.2; +0.7, -3.9 to +4.9), the other three are below: by 10.3 (4.9 to 16.3) and 13.2 (8.3 to 17.9)
with 512 problems, by 16.5 (12.0 to 21.4) with the most paths of all. So more paths are not better
here: a doubling is worth -0.5 points (-1.4 to +0.4), where it had been +1.2 (+0.4 to +2.1) on test
problems half of which no pool had. pass@16 is 90 and 93 % with 512 problems, 98 to 99 % elsewhere.
Every run is one draw of its training, and the intervals do not hold that. A sum of two terms has
one path, so paths here are problems solved; take a task with steps to count both.
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
