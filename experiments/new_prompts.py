"""Prompts beyond the given ones: are problems that a model makes worth learning from?

    python run.py --config=experiments/new_prompts.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=new_prompts

RFT on given prompts, on prompts made of as many given ones by changing their expressions (evolve)
and on those that the policy writes for given solutions (reverse: a quarter of its SFT examples
showed it how); then on evolved ones of middle difficulty alone, and on ones written by the policy
whose answers a vote of its own samples says (a wrong vote teaches a wrong answer). done.json of the
stages `prompts` has how many candidates were known, not valid, too easy or too hard, and how
different they are.

Time: 2 min on 2 cores, its base included.

Seen at seed 2, 75k, 128 problems x 64: as good as given ones or better at the first try, not in
coverage, and with far fewer examples. pass@1 is 12.1 % after RFT on 1,024 given prompts, of which
766 were solved; on evolved ones 15.0 % (181 solved; +2.9 points, 95 % over problems -0.6 to +6.4),
on those of the policy's own 17.3 % (374; +5.2, +1.8 to +8.7), on evolved ones of middle difficulty
16.2 % (350; +4.1, +0.6 to +7.4). pass@16 is 73 %, and 59, 71 and 61 % of the three (-13.5, -21.1 to
-5.9; -2.4, -9.1 to +4.4; -12.2, -18.9 to -5.7). Prompts whose answer a vote says are worse: 228
problems with one sample in two right, 5.5 % (-6.6, -8.7 to -4.9), pass@16 50 %.

Of 1,811 evolved ones 451 were known, and the policy passes 6.4 % of its samples of the rest, where
it passes 30.0 % of the test problems: a changed problem is a harder one. Of 2,048 that it wrote for
given solutions 1,526 were known, 14 not valid, 11 cut off and 497 kept (pass rate 30.6 %). Of 3,607
candidates 422 were of middle difficulty. Over the four runs of RFT a doubling of solved problems is
worth -1.4 points (95 % -3.1 to +0.2); on sums of one and two digits it was +0.9 (0.0 to +1.9), and
made prompts were worse than given ones. All begin from the pretrained base and end below the SFT
branch (30.0 %), which has had 496k tokens to their 360k. One seed.
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
