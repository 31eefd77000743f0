"""Prompts beyond the given ones: are problems that a model makes worth learning from?

    python run.py --config=experiments/new_prompts.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=new_prompts

RFT on given prompts, on prompts made of as many given ones by changing their expressions (evolve)
and on those that the policy writes for given solutions (reverse: a quarter of its SFT examples
showed it how); then on evolved ones of middle difficulty alone, and on ones written by the policy
whose answers a vote of its own samples says (a wrong vote teaches a wrong answer). done.json of the
stages `prompts` has how many candidates were known, not valid, too easy or too hard, and how
different they are.

Time: 9 minutes on 2 cores that did much other work (4 minutes of CPU), its base included.

Seen on sums of one and two digits (min_digits=1), before the task was changed:

Seen at seed 2, 75k, 128 problems x 64: no. pass@1 is 4.5 % after RFT on 1,024 given prompts, of
which 377 were solved; on evolved ones 2.9 %, on those of the policy's own 3.0 %. Made prompts teach
less because fewer give an example: of 1,783 evolved ones 479 were known, and the policy passes 1.9
% of its samples of the rest, where it passes 5.2 % of the test problems: a changed problem is a
harder one. Of 2,048 that it wrote for given solutions 1,499 were known, 9 not valid and 533 kept
(pass rate 6.3 %). Evolved ones of middle difficulty (261 of 3,612 candidates) give 128 examples and
2.5 %; those whose answer a vote says, 30 problems with one sample in two right, 1.9 %. Over the
four runs of RFT each doubling of solved problems is worth +0.9 points (95 % 0.0 to +1.9).
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('new_prompts', arg)
  c = self_training.base(arg)
  c.name = 'new_prompts' + ('_smoke' if arg else '')
  c.data.reversed = 0.25
  c.synthetic.problems = 64 if arg else 1_024
  c.synthetic.runs = (
    'rft',
    "rft(prompts='evolve')",
    "rft(prompts='reverse')",
    "rft(prompts='evolve', draws=4, pass_low=0.1, pass_high=0.9)",
    "unfiltered(prompts='reverse', valid='majority', mix=0.5)",
  )
  return c
