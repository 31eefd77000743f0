"""Rejection-sampling fine-tuning (RFT, 2308.01825): accuracy over the log of distinct paths.

    python run.py --config=experiments/rejection_sampling.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=rejection_sampling

The SFT branch answers prompts that nobody has solved; of the right answers one of each reasoning
path is kept, and the base is trained on them and on human solutions, half and half. More samples of
each problem find more paths, and paths of harder problems; more problems find more of any kind.

Time: not yet run at this size; the part below took 3 minutes on 2 cores that others used too.

Seen of it, at one seed (2), with half of the tokens: with 1, 4 and 16 samples of 2,048 problems RFT
found 285, 786 and 1,518 distinct paths, and pass@1 was 5.7, 5.9 and 4.7 %, against 4.7 % of human
data alone: -0.4 points for each doubling of paths (95 % -1.2 to +0.4), so no law shows. All are
below the SFT branch that drew the samples (8.4 %), which was trained on more tokens: so few tokens
limited what was learned, and not the paths. A sum of two terms has one path, so paths here are
problems solved; take a task with steps to count both.
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
