"""Is a model's own data, filtered, worth more than human data alone? At equal tokens, equal FLOPs.

    python run.py --config=experiments/synthetic_vs_human.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=synthetic_vs_human

From one SFT branch, which has seen its 3,000 human solutions many times, training goes on: on human
data alone (at three budgets, so that there is a line to compare with at equal FLOPs), on own
samples alone, on both; right ones, one of each path, or all of them. 'gold' has human solutions for
the same prompts: what a perfect filter could give. Three seeds.

Time: 7 min 35 s on 2 cores, its base included.

Seen at seeds 2, 3 and 4: the branch has pass@1 11.7 % (sizes were chosen on seed 0, without
pretraining and attempts, which had 51 % there). 131k more tokens of human data make it 18.7 %; over
that, at equal tokens, right samples (3,011, one of each path, of 24,576) have -0.2 points together
with human data (95 % -2.4 to +1.9) and +0.7 alone (-1.3 to +2.8), all samples -7.3 (-13.0 to -2.7)
and -9.2 (-17.6 to -2.7), and true solutions of the same prompts, with human data, +1.2 (-0.6 to
+3.0). At equal FLOPs, samples counted: right ones -1.9 (-4.4 to +0.2) and -0.9 (-2.9 to +1.0), all
-9.0 (-15.0 to -4.1) and -10.8 (-19.5 to -4.1). So the filter is worth 7 to 10 points, and filtered
own data are as good as human data here, not better beyond noise; a run before this one, with other
packing, said the same. Human data were not used up: four times the tokens gave 34.0 %. Of a branch
that has learned all that its human data hold this says nothing.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  if arg not in ('', 'smoke'):
    raise BadInput(f"experiments/synthetic_vs_human.py:{arg}: the one variant is 'smoke'")
  c = self_training.base(arg)
  c.name = 'synthetic_vs_human' + ('_smoke' if arg else '')
  c.seeds = (0, 1) if arg else (2, 3, 4)
  tokens = c.synthetic.tokens = 12_288 if arg else 131_072
  c.synthetic.problems = 64 if arg else 6_144
  c.synthetic.n = 4
  c.synthetic.learning_rate = 1e-3
  go_on = "start='policy'"
  c.synthetic.runs = (
    *(f'human({go_on}, tokens={times * tokens})' for times in (1, 2, 4)),
    f'rft({go_on}, mix=0.0)',
    f'rft({go_on})',
    f'unfiltered({go_on})',
    f'unfiltered({go_on}, mix=0.5)',
    f'gold({go_on}, mix=0.5)',
  )
  return c
