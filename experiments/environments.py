"""How many environments does RL need, and does it help to let the policy try again?

    python run.py --config=experiments/environments.py --workdir=results/environments
    python -m analysis.environments results/environments

A grid: distinct problems to draw from, 16, 128 or all 4,000, by turns. With one turn a response is
rewarded as it is; with three the policy is told that its answer is wrong and whether the right one
is larger or smaller, and solves the problem again. SFT teaches that form, on made-up mistakes.
Measured on the same test problems: pass@k of single responses, and episodes of 1, 2 and 3 turns.

Time: 7 minutes on 2 cores, one of them busy, of which the base takes one.

Seen at seed 2, 75k, 786k SFT tokens, 30 updates of 16 x 16, 64 test problems. Before RL: pass@1
5.4 % (s.e. 1.0), pass@32 52 %, episodes of 3 turns 11.7 % (2.4). What the verifier passed of the
policy's own episodes in the first and in the last five updates, and then on the test problems:

    problems    turns    own, first    own, last    pass@1          pass@32    3 turns
    16          1        5.1 %         25.7 %       5.3 % (2.2)     25 %        8.2 % (2.7)
    128         1        5.4           13.9         4.6   (1.4)     34          6.2   (2.0)
    4,000       1        5.0            5.4         5.0   (1.0)     46          8.6   (2.0)
    16          3       11.1           30.6         5.8   (2.1)     32          9.0   (2.8)
    128         3       11.7           19.7         4.1   (1.0)     42         11.3   (2.8)
    4,000       3       10.8           13.3         6.5   (1.3)     52         12.9   (2.7)

The fewer the problems, the more of them is learned by heart, and the more coverage is lost: pass@32
falls to half with 16. No change of pass@1 is beyond noise. With 4,000 problems RL in turns leaves
coverage whole and solves 12.9 % within three turns where RL of single responses leaves 8.6 %, for
2.8 times the FLOPs an update; standard errors of 2 to 3 points, one seed. An episode hears what is
right, so it is no strategy that could be deployed without a verifier.
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
