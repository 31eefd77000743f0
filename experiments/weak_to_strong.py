"""Weak to strong (2312.09390): a small model's labels train a larger one. How much is closed?

    python run.py --config=experiments/weak_to_strong.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=weak_to_strong

Teachers answer prompts that they were not trained on, once, at a low temperature; every answer is
learned, right or wrong. The ceiling of a student is its own size, trained alike on the true
solutions of the prompts. Students begin as their pretrained bases.

Time: 18 minutes on 2 cores that did much other work (7 minutes of CPU), from the base that
synthetic_vs_human.py leaves.

Seen at seed 2, 128 problems x 64: hardly any of the gap is closed. 25k (pass@1 4.9 %) teaches 75k
to 5.6 % of a ceiling of 7.9 %, and 150k to 5.2 % of 16.1 %; 75k (8.4 %) teaches 150k to 9.2 %. The
parts of the gap recovered are .25 (95 % over problems -.71 to 1.07), .03 (-.19 to .24) and .10
(-.15 to .51), so none differs from nothing. Students end below the SFT branches of their own size
and pass@16 falls by 12 to 17 points: nine of ten labels are wrong here, where 2312.09390 had weak
labels that were mostly right.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke'):
    raise BadInput(f"experiments/weak_to_strong.py:{arg}: the one variant is 'smoke'")
  c = self_training.base(arg)
  c.name = 'weak_to_strong' + ('_smoke' if arg else '')
  c.model.sizes = ('25k', '75k') if arg else ('25k', '75k', '150k')
  teachers, c.synthetic.sizes = c.model.sizes[:-1], c.model.sizes[1:]
  c.synthetic.problems, c.synthetic.n, c.synthetic.temperature = 128 if arg else 6_144, 1, 0.3
  c.synthetic.tokens = 24_576 if arg else 524_288
  c.synthetic.runs = ('gold', *(f"unfiltered(teacher='{teacher}')" for teacher in teachers))
  return c
