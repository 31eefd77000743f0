"""RL scaling: accuracy against RL compute, at three seeds.

    python run.py --config=experiments/rl_steps.py --workdir=results/rl
    python -m analysis.reinforcement results/rl --study=rl_steps --laws=laws.png

DAPO from the SFT branch that all experiments on RL share, measured on the way at seven budgets. Its
rate and warm-up were chosen on seed 0 (docs/lab-log.md).

Time: 15 minutes of CPU, 29 minutes on 2 cores that did much other work.

Seen at seeds 2, 3 and 4: the verifier passes 4.4 % of the policy's own samples in the first ten
updates and 9.6 % in the last ten of 190 (standard error over seeds 1.5 points). On the test
problems pass@1 goes from 3.8 % by +3.8 points (95 %, over problems and seeds, +0.3 to +7.5); the
seeds end at 5.3, 6.9 and 10.4 %. majority@32 (4.0 to 8.7 %) and pass@32 (53 to 45 %) do not change
beyond noise. Laws fitted on the first half of the responses miss the second half by 2.0 points
(sigmoid), 2.2 (log-linear) and 2.2 (power law); taking the last point fitted, by 1.9. So no law
foretells this run: its seeds part by more than laws do, and no ceiling is in sight.
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
