"""Is a model's own data, filtered, worth more than human data alone? At equal tokens, equal FLOPs.

    python run.py --config=experiments/synthetic_vs_human.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=synthetic_vs_human

From one SFT branch, which has seen its 3,000 human solutions many times, training goes on: on human
data alone (at three budgets, so that there is a line to compare with at equal FLOPs), on own
samples alone, on both; right ones, one of each path, or all of them. 'gold' has human solutions for
the same prompts: what a perfect filter could give. Three seeds, of which 95 % intervals are wide.

Time: 5 min on 2 cores, its base included.

Seen at seeds 2 to 4: the branch has pass@1 26.7 % (32, 31 and 18 %). 131k more tokens of human data
make it 42.4 %; over that, at equal tokens, right samples (one of each path, of 24,576) have +1.6
points together with human data (95 %, over problems and seeds, -2.9 to +6.2) and +3.5 alone (-3.2
to +10.2), all samples -17.0 (-21.6 to -12.4) and -21.3 (-24.9 to -17.6), and true solutions of the
same prompts, with human data, +0.6 (-2.9 to +4.2). At equal FLOPs, samples counted: right ones -4.3
(-11.7 to +3.1) and -2.1 (-12.1 to +7.9), all -23.0 (-29.6 to -16.4) and -27.0 (-33.7 to -20.2). So
the filter is worth 18.6 points (15.9 to 21.3) beside human data and 24.8 (20.4 to 29.1) alone, and
filtered own data are as good as human data here, not better beyond noise. Human data were not used
up: four times the tokens gave 80.4 %. Of a branch that has learned all that its human data hold
this says nothing. Without a filter own data teach nothing: pass@1 of the branch changes by -1.3
points (-5.4 to +2.7) with human data and by -5.6 (-11.5 to +0.2) alone.
"""

from ml_collections import ConfigDict

from experiments import self_training
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('synthetic_vs_human', arg)
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
