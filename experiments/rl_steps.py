"""RL scaling: accuracy against RL compute, at three seeds.

    python run.py --config=experiments/rl_steps.py --workdir=results/rl
    python -m analysis.reinforcement results/rl --study=rl_steps --laws=laws.png

DAPO from the SFT branch that all experiments on RL share, measured on the way at seven budgets. Its
rate and warm-up were chosen on seed 0 (docs/lab-log.md).

Time: 10 min 36 s on 2 cores, of which the base takes one.

Seen at seeds 2, 3 and 4: the verifier passes 5.0 % of the policy's own samples in the first ten
updates and 11.5 % in the last ten of 190 (standard error over seeds 1.0 point). On the test
problems pass@1 goes from 5.2 % by +4.7 points (95 %, over problems and seeds, +1.7 to +8.0); the
seeds end at 10.4, 7.5 and 11.8 %. majority@32 (7.2 to 13.4 %) and pass@32 (56 to 48 %) do not
change beyond noise. Laws fitted on the first half of the responses miss the second half by 2.1
points (sigmoid), 2.2 (log-linear) and 2.2 (power law). To say that nothing changes after the last
ten updates fitted misses by 2.1, at their mean over seeds, and by 1.3 at each seed's own: the laws
are no better than that, nor than each other, and seeds differ by more. A sigmoid on all of it has
its ceiling at 12.2 % (12.0 to 18.3).
"""

from ml_collections import ConfigDict

from experiments import rl_algorithms


def get_config(arg: str = '') -> ConfigDict:
  c = rl_algorithms.base(arg)
  c.name = 'rl_steps' + ('_smoke' if arg else '')
  c.rl.algorithm = 'dapo'
  if not arg:
    c.seeds = (2, 3, 4)
    c.rl.updates = (10, 20, 40, 60, 90, 130, 190)
  return c
