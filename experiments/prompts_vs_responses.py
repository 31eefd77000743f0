"""At equal tokens of SFT: many prompts with one response each, or few prompts with many?

    python run.py --config=experiments/prompts_vs_responses.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=prompts_vs_responses

The SFT branch answers P prompts that nobody has solved, and at most m right responses of each are
kept. P x m and the number of samples are the same in every run; the base is trained for equal
tokens on what is kept and on human solutions, half and half. `distinct='none'` keeps responses that
say the same. The last run keeps of the most samples of the fewest prompts one of each path, which
is what remains where a task has one way to solve a problem.

Time: 1.5 min on 2 cores, from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64: many prompts with one response each. pass@1 is 16.7 % of
human data alone, 19.0 % with one right response each of 2,720 problems, 6.6 % with 2,951 of 1,024
problems at most, and 8.6 % with 2,969 of 256; over human data +2.3 points (95 % over problems -0.4
to +4.7), -10.2 (-12.3 to -8.0) and -8.1 (-10.5 to -5.5). One each of 256 problems (250 responses,
walked many times) has 15.1 %, -1.7 (-4.4 to +1.3): responses that repeat a problem do harm, fewer
problems hardly. pass@16 is 80 % of human data, 75, 64 and 54 % of the three, 64 % of the last. In a
task that has one way to solve a problem, more responses of it are repeats; take one with several.
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
