"""How many environments does RL need, and does it help to let the policy try again?

    python run.py --config=experiments/environments.py --workdir=results/environments
    python -m analysis.environments results/environments

A grid: distinct problems to draw from, 16, 128 or all 4,000, by turns. With one turn a response is
rewarded as it is; with three the policy is told that its answer is wrong and whether the right one
is larger or smaller, and solves the problem again. SFT teaches that form, on made-up mistakes.
Measured on the same test problems: pass@k of single responses, and episodes of 1, 2 and 3 turns.

Time: 5 min 35 s on 2 cores, of which the base takes one.

Seen at seed 2, 75k, 3.1M SFT tokens, 100 updates of 16 x 16, 64 test problems. Before RL: pass@1
5.6 % (s.e. 0.4), pass@32 80 %, episodes of 3 turns 9.8 % (1.8). What the verifier passed of the
policy's own episodes in the first and in the last five updates, and then on the test problems:

    problems    turns    own, first    own, last    pass@1          pass@32    3 turns
    16          1        6.1 %         35.0 %       3.5 % (0.5)     52 %        7.4 % (1.6)
    128         1        6.6           7.8          6.1   (0.6)     74         10.2   (1.7)
    4,000       1        6.1           5.0          5.7   (0.6)     71         10.2   (1.8)
    16          3       10.9           27.1         4.8   (0.5)     66          7.8   (1.7)
    128         3       11.2           13.3         5.9   (0.5)     78         11.7   (2.2)
    4,000       3       11.2           11.1         5.9   (0.4)     80         12.9   (2.3)

Sixteen problems are learned by heart, and coverage is lost for it: pass@32 falls by 28 points (20
to 36) in one turn, by 14 (6 to 22) in three; pass@1 by 2.1 (1.2 to 3.0) and 0.8 (-0.1 to 1.8). No
other change of pass@1 is beyond noise: this base is right too seldom (rl_steps.py starts at 33 %).
With 4,000 problems RL in turns leaves coverage whole and solves 12.9 % within three turns where RL
of single responses leaves 10.2 %, for 2.9 times the FLOPs an update; standard errors of 2 points,
one seed. An episode hears what is right, so it is no strategy that could be deployed without a
verifier.
"""

import itertools

from ml_collections import ConfigDict

from experiments import rl_algorithms
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('environments', arg)
  c = rl_algorithms.base(arg)
  c.name = 'environments' + ('_smoke' if arg else '')
  c.seeds = (0,) if arg else (2,)
  c.data.corrected = 0.5
  c.rl.prompts, c.rl.group = (8, 4) if arg else (16, 16)
  c.rl.updates = (2,) if arg else (100,)
  counts = (8, 0) if arg else (16, 128, 0)
  grid = itertools.product((1, 3), counts)
  c.rl.runs = tuple(f'dapo(environments={count}, turns={turns})' for turns, count in grid)
  c.search.strategies, c.search.after_rl = ('episodes',), True
  c.search.policies = c.model.sizes
  c.search.budgets, c.search.runs = (1, 2, 3), 1 if arg else 4
  return c
