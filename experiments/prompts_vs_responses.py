"""At equal tokens of SFT: many prompts with one response each, or few prompts with many?

    python run.py --config=experiments/prompts_vs_responses.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=prompts_vs_responses

The SFT branch answers P prompts that nobody has solved, and at most m right responses of each are
kept. P x m and the number of samples are the same in every run; the base is trained for equal
tokens on what is kept and on human solutions, half and half. `distinct='none'` keeps responses that
say the same. The last run keeps of the most samples of the fewest prompts one of each path, which
is what remains where a task has one way to solve a problem.

Time: not yet run at this size.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke'):
    raise BadInput(f"experiments/prompts_vs_responses.py:{arg}: the one variant is 'smoke'")
  c = self_training.base(arg)
  c.name = 'prompts_vs_responses' + ('_smoke' if arg else '')
  splits = ((64, 4), (16, 16)) if arg else ((4_096, 4), (1_024, 16), (256, 64))
  keep = "distinct='none'"  # a quarter of the samples, at most
  c.synthetic.runs = (
    'human',
    *(f'rft({keep}, problems={P}, n={n}, most={n // 4})' for P, n in splits),
    f'rft(problems={splits[-1][0]}, n={splits[-1][1]})',
  )
  return c
