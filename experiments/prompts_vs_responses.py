"""At equal tokens of SFT: many prompts with one response each, or few prompts with many?

    python run.py --config=experiments/prompts_vs_responses.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=prompts_vs_responses

The SFT branch answers P prompts that nobody has solved, and at most m right responses of each are
kept. P x m and the number of samples are the same in every run; the base is trained for equal
tokens on what is kept and on human solutions, half and half. `distinct='none'` keeps responses that
say the same. The last run keeps of the most samples of the fewest prompts one of each path, which
is what remains where a task has one way to solve a problem.

Time: 2 min 24 s on 2 cores from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 75k, 128 problems x 64: pass@1 is 5.5 % of human data alone, and 6.6 % with one
right response each of 2,902 problems, 9.9 % with 3,087 of 1,024 problems, 7.3 % with 3,110 of 256;
over human data +1.1 points (95 % -0.5 to +2.6), +4.4 (+2.1 to +6.8), +1.8 (-0.5 to +4.3). One each
of 256 problems (240 responses, walked many times) has 14.9 %, +9.4 (+5.7 to +12.9). On a base
before this one the first of these was the best (+3.1, +1.6 to +4.8; then +0.6 and -0.2; the last
+0.6): at one seed the order of prompts and responses is that of the draw. In a task that has one
way to solve a problem, more responses of it are repeats; take one with several.
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
