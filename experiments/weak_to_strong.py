"""Weak to strong (2312.09390): a small model's labels train a larger one. How much is closed?

    python run.py --config=experiments/weak_to_strong.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=weak_to_strong

Teachers answer prompts that they were not trained on, once, at a low temperature; every answer is
learned, right or wrong. The ceiling of a student is its own size, trained alike on the true
solutions of the prompts. Students begin as their pretrained bases.

Time: 5 min 15 s on 2 cores from the base that synthetic_vs_human.py leaves.

Seen at seed 2, 128 problems x 64: a tenth of the gap is closed. 25k (pass@1 9.1 %) teaches 75k to
10.8 % of a ceiling of 25.1 %, and 150k to 11.6 % of 36.5 %; 75k (20.4 %) teaches 150k to 21.9 %.
The parts of the gap recovered are .11 (95 % over problems -.02 to .29), .09 (.02 to .17) and .10
(-.07 to .25). The students of 25k end 9 points below the SFT branches of their own size, and
pass@16 falls by 16 points: most labels are wrong here, where 2312.09390 had weak labels that were
mostly right. On a base before this one, with weaker teachers (4.9 and 8.4 %), the parts were .25,
.03 and .10, none beyond noise.
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
