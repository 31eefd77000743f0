"""Weak to strong (2312.09390): a small model's labels train a larger one. How much is closed?

    python run.py --config=experiments/weak_to_strong.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=weak_to_strong

Teachers answer prompts that they were not trained on, once, at a low temperature; every answer is
learned, right or wrong. The ceiling of a student is its own size, trained alike on the true
solutions of the prompts. Students begin as their pretrained bases.

Time: 4 min on 2 cores with other work beside it, from the base that synthetic_vs_human.py leaves.

Seen on sums of one and two digits (min_digits=1), before the task was changed:

Seen at seed 2, 128 problems x 64: nothing of a gap is shown to be closed. 25k (pass@1 5.3 %)
teaches 75k to 5.4 % of a ceiling of 10.5 %, and 150k to 6.9 % of 33.5 %: parts of the gap of .02
(95 % over problems -.34 to .42) and .06 (-.01 to .12). 75k (35.7 %) teaches 150k to 23.3 %, whose
ceiling is 33.5 %: there is no gap. The students of 25k end below the SFT branches of their own
size, 75k by 30 points and 150k by 13, pass@16 by 24 and 20: most labels are wrong here, where
2312.09390 had weak labels that were mostly right. On an earlier draw a tenth of each of three gaps
was closed (.11, .09 and .10, one of them beyond noise). With 524k tokens from its base 75k gets to
35.7 % by 3,000 human solutions and to 10.5 % by 6,144 true ones, so one seed says little; and 46 %
of the test problems are of a kind that nobody learns from (self_training.py).
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
