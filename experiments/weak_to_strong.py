"""Weak to strong (2312.09390): a small model's labels train a larger one. How much is closed?

    python run.py --config=experiments/weak_to_strong.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=weak_to_strong

Teachers answer prompts that they were not trained on, once, at a low temperature; every answer is
learned, right or wrong. The ceiling of a student is its own size, trained alike on the true
solutions of the prompts. Students begin as their pretrained bases.

Time: 3.5 min on 2 cores, from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 128 problems x 64: hardly anything of a gap is closed. 25k (pass@1 6.4 %) teaches
75k to 7.5 % of a ceiling of 26.2 %, and 150k to 7.3 % of 51.3 %: parts of the gap of .05 (95 % over
problems .00 to .11) and .02 (-.00 to .05). 75k (32.1 %) teaches 150k to 33.7 % of 51.3 %: .09 (-.06
to .22). The students end below the SFT branches of their own size, those of 25k by 24.6 points
(75k) and 38.0 (150k), pass@16 by 30 and 37, that of 75k by 11.6 and 14: of the labels 8 % (25k) and
47 % (75k) are right, where 2312.09390 had weak labels that were mostly right. With 524k tokens from
its base 75k gets to 32.1 % by 3,000 human solutions and to 26.2 % by 6,144 true ones (-5.8, -9.4 to
-2.4), 150k to 45.4 and 51.3 % (+5.9, +2.3 to +9.9), so one seed says little of a few points.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('weak_to_strong', arg)
  c = self_training.base(arg)
  c.name = 'weak_to_strong' + ('_smoke' if arg else '')
  c.model.sizes = ('25k', '75k') if arg else ('25k', '75k', '150k')
  teachers, c.synthetic.sizes = c.model.sizes[:-1], c.model.sizes[1:]
  c.synthetic.problems, c.synthetic.n, c.synthetic.temperature = 128 if arg else 6_144, 1, 0.3
  c.synthetic.tokens = 24_576 if arg else 524_288
  c.synthetic.runs = ('gold', *(f"unfiltered(teacher='{teacher}')" for teacher in teachers))
  return c
