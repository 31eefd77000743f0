"""Prompts beyond the given ones: are problems that a model makes worth learning from?

    python run.py --config=experiments/new_prompts.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=new_prompts

RFT on given prompts, on prompts made of as many given ones by changing their expressions (evolve)
and on those that the policy writes for given solutions (reverse: a quarter of its SFT examples
showed it how); then on evolved ones of middle difficulty alone, and on ones written by the policy
whose answers a vote of its own samples says (a wrong vote teaches a wrong answer). done.json of the
stages `prompts` has how many candidates were known, not valid, too easy or too hard, and how
different they are.

Time: not yet run at this size.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke'):
    raise BadInput(f"experiments/new_prompts.py:{arg}: the one variant is 'smoke'")
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
