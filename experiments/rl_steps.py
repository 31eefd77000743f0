"""RL scaling: accuracy against RL compute, at three seeds.

    python run.py --config=experiments/rl_steps.py --workdir=results/rl
    python -m analysis.reinforcement results/rl --study=rl_steps --laws=laws.png

DAPO from the SFT branch that all experiments on RL share, measured on the way at six budgets. Its
rate is the default, its warm-up was chosen on seed 0 (docs/lab-log.md).

Time: 11 min 31 s on 2 cores, of which the base takes two.

Seen at seeds 2 to 4: RL gains on the kind of problem that SFT learned from, in hundreds of updates
and not in tens. Of the policy's own samples the verifier passes 35.6 % in the first ten updates and
42.6 % in the last ten of 600 (standard error of the change over seeds 1.1 points). On the test
problems pass@1 goes from 33.3 % by +5.3 points (95 %, over problems and seeds, +2.4 to +8.2), at
all three seeds (40.6 to 46.8, 21.8 to 26.1, 37.3 to 42.7 %); by +1.8 (-0.0 to +3.5) after 300
updates, and by -0.3, -0.4, -0.1 and +0.7 after 20, 40, 80 and 150. majority@32 goes from 49.2 % by
+3.4 (-1.6 to +8.3), pass@32, the oracle, from 96.3 by -5.9 (-15.0 to +3.1). Laws fitted on the
first half of the responses, all seeds together, miss the second half by 8.5 points (sigmoid), 8.6
(log-linear) and 8.6 (power law), as the seeds lie 20 points apart; to say that each seed stays at
the last ten updates fitted misses by 3.7.
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('rl_steps', arg)
  c = rl_algorithms.base(arg)
  c.name = 'rl_steps' + ('_smoke' if arg else '')
  c.rl.algorithm = 'dapo'
  if not arg:
    c.seeds = (2, 3, 4)
    c.rl.updates = (20, 40, 80, 150, 300, 600)
  return c
