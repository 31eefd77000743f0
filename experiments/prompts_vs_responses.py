"""At equal tokens of SFT: many prompts with one response each, or few prompts with many?

    python run.py --config=experiments/prompts_vs_responses.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=prompts_vs_responses

The SFT branch answers P prompts that nobody has solved, and at most m right responses of each are
kept. P x m and the number of samples are the same in every run; the base is trained for equal
tokens on what is kept and on human solutions, half and half. `distinct='none'` keeps responses that
say the same. The last run keeps of the most samples of the fewest prompts one of each path, which
is what remains where a task has one way to solve a problem.

Time: 2.5 min on 2 cores with other work beside it, from the base that synthetic_vs_human.py leaves.

Seen on sums of one and two digits (min_digits=1), before the task was changed:

Seen at seed 2, 75k, 128 problems x 64: the more prompts, the better. pass@1 is 20.1 % of human data
alone, 16.4 % with one right response each of 3,685 problems, 5.3 % with 3,722 of 1,024 problems,
and 4.2 % with 3,540 of 256; under human data -3.7 points (95 % -6.7 to -0.7), -14.8 (-18.4 to
-11.3) and -15.9 (-19.8 to -12.2). One each of 256 problems (239 responses, walked many times) has
9.3 %, -10.8 (-14.5 to -7.1). On two earlier draws, of weaker models, all were as good as human data
or better, and on one of them the order was another: at one seed it is that of the draw. In a task
that has one way to solve a problem, more responses of it are repeats; take one with several. Of the
test problems 46 % are of a kind that nobody learns from (self_training.py).
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('prompts_vs_responses', arg)
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
