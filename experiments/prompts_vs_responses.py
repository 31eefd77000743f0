"""At equal tokens of SFT: many prompts with one response each, or few prompts with many?

    python run.py --config=experiments/prompts_vs_responses.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=prompts_vs_responses

The SFT branch answers P prompts that nobody has solved, and at most m right responses of each are
kept. P x m and the number of samples are the same in every run; the base is trained for equal
tokens on what is kept and on human solutions, half and half. `distinct='none'` keeps responses that
say the same. The last run keeps of the most samples of the fewest prompts one of each path, which
is what remains where a task has one way to solve a problem.

Time: 4 minutes on 2 cores that did much other work (2.2 minutes of CPU), from the base that
synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64: pass@1 is 4.7 % of human data alone, and 7.8 % with one
right response each of 1,555 problems, 5.4 % with 1,758 of 1,024 problems, 4.5 % with 1,852 of 256;
over human data +3.1 points (95 % +1.6 to +4.8), +0.6 (-0.4 to +1.9), -0.2 (-1.7 to +1.3). pass@16
falls likewise: 44, 41, 33 %. So prompts are worth more than responses: in a task that has one way
to solve a problem, more responses of it are repeats (256 problems have 229 paths, which alone give
5.3 %).
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
