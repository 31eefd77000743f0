"""Rejection-sampling fine-tuning (RFT, 2308.01825): accuracy over the log of distinct paths.

    python run.py --config=experiments/rejection_sampling.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=rejection_sampling

The SFT branch answers prompts that nobody has solved; of the right answers one of each reasoning
path is kept, and the base is trained on them and on human solutions, half and half. More samples of
each problem find more paths, and paths of harder problems; more problems find more of any kind.

Time: 10 minutes on 2 cores that did much other work (5.4 minutes of CPU), from the base that
synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64, pass@1 (human data alone 24.8 %; the SFT branch that drew
the samples 8.4 %):

    samples of each problem    512 problems    2,048         6,144
    1                          11.6 (69)       15.6 (285)
    4                                          14.1 (786)
    16                         14.5 (359)      26.0 (1,518)  14.9 (4,543)

in brackets distinct paths. Each doubling of paths is worth +1.1 points (95 % over problems +0.6 to
+1.6), but the line misses a run left out by up to 10.6 points, and the most paths do worse than a
third of them: at this budget models are in the middle of learning to add, and one run is ahead of
another by ten points of pass@1 where held-out losses are 0.84 and 0.87. So no law shows at one
seed, and RFT is not shown to beat human data (+1.2, -2.1 to +4.6, at best). A sum of two terms has
one path, so paths here are problems solved; take a task with steps to count both.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke'):
    raise BadInput(f"experiments/rejection_sampling.py:{arg}: the one variant is 'smoke'")
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
