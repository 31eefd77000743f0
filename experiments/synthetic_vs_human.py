"""Is a model's own data, filtered, worth more than human data alone? At equal tokens, equal FLOPs.

    python run.py --config=experiments/synthetic_vs_human.py --workdir=results/self_training
    python -m analysis.self_training results/self_training --study=synthetic_vs_human

From one SFT branch, which has seen its 3,000 human solutions many times, training goes on: on human
data alone (at three budgets, so that there is a line to compare with at equal FLOPs), on own
samples alone, on both; right ones, one of each path, or all of them. 'gold' has human solutions for
the same prompts: what a perfect filter could give. Three seeds, of which 95 % intervals are wide.

Time: 5 min on 2 cores, its base included; six seeds twice that.

Seen at seeds 2 to 7 (--config.seeds="(2,3,4,5,6,7)"): the branch has pass@1 23.4 %, by seed 12 to
32. 131k more tokens of human data make it 36.7 %; over that, at equal tokens, right samples (one of
each path, of 24,576) have +1.8 points together with human data (95 %, over problems and seeds, -0.2
to +3.8) and +3.0 alone (-0.4 to +6.5), all samples -14.5 (-19.3 to -9.6) and -18.2 (-24.3 to
-12.1), and true solutions of the same prompts, with human data, +0.9 (-0.6 to +2.5). At equal
FLOPs, samples counted: right ones -3.4 (-6.1 to -0.7) and -1.8 (-5.5 to +1.8), all -19.6 (-26.4 to
-12.8) and -23.1 (-31.1 to -15.1). So the filter is worth 16.2 points (10.8 to 21.7) beside human
data and 21.2 (13.0 to 29.4) alone, and filtered own data are as good as human data here, not better
beyond noise, and for their FLOPs not as good. Human data were not used up: four times the tokens
gave 71.1 %. Of a branch that has learned all that its human data hold this says nothing. Without a
filter own data teach nothing: pass@1 of the branch changes by -1.2 points (-2.6 to +0.2) with human
data and by -4.9 (-7.1 to -2.7) alone. Seeds 2 to 4, the default, say the same of tokens, and are
too few for what FLOPs say.
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
