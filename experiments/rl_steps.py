"""RL scaling: accuracy against RL compute, at three seeds.

    python run.py --config=experiments/rl_steps.py --workdir=results/rl
    python -m analysis.reinforcement results/rl --study=rl_steps --laws=laws.png

DAPO from the SFT branch that all experiments on RL share, measured on the way at seven budgets. Its
rate and warm-up were chosen on seed 0 (docs/lab-log.md).

Time: 9 min on 2 cores with other work beside it, of which the base takes one.

Seen at seeds 2 to 7 (--config.seeds="(2,3,4,5,6,7)"; the file has the first three): the verifier
passes 4.9 % of the policy's own samples in the first ten updates and 11.0 % in the last ten of 190
(standard error over seeds 0.6 points). On the test problems pass@1 goes from 4.7 % by +5.0 points
(95 %, over problems and seeds, +2.4 to +7.9); the seeds end at 7.5 to 12.1 %. majority@32 goes from
6.4 % by +5.8 (+1.2 to +10.6); pass@32, the oracle, by -8.8 (-18.0 to +0.5). Laws fitted on the
first half of the responses miss the second half by 1.8 points (sigmoid), 2.0 (log-linear) and 2.0
(power law). To say that nothing changes after the last ten updates fitted misses by 2.2, at their
mean over seeds, and by 1.7 at each seed's own: the laws are hardly better than that, nor than each
other. A sigmoid on all of it has its ceiling at 13.2 % (11.8 to 17.5).

Those are of an earlier draw. Of another, seeds 2 to 4: pass@1 +5.0 points (-0.3 to +10.3), and all
of it on one-digit sums, 5.4 to 16.5 % (+11.1, 0.0 to +22.4), of which SFT's pool has 3 %, RL's 42
and the test pool 45. Of two-digit sums 2.1 % become 1.9 (-1.4 to +1.1), their pass@16 27.6 becomes
20.1 (-13.1 to -2.5).
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
