"""How many environments does RL need, and does it help to let the policy try again?

    python run.py --config=experiments/environments.py --workdir=results/environments
    python -m analysis.environments results/environments

A grid: distinct problems to draw from, 16, 128 or all 4,000, by turns. With one turn a response is
rewarded as it is; with three the policy is told that its answer is wrong and whether the right one
is larger or smaller, and solves the problem again. SFT teaches that form, on made-up mistakes.
Measured on the same test problems: pass@k of single responses, and episodes of 1, 2 and 3 turns.

Time: not yet run at this size. The small run below took 19 minutes on about a third of one core; so
this one should take less than 10 on 2 free ones.

Seen in a small run (seed 2, 393,216 SFT tokens, 30 updates, 16 and 4,000 problems, 64 test
problems, episodes drawn twice): with 16 problems RL memorises them. Of what it drew the verifier
passed 3 % in the first and 25 % in the last five updates (in 3 turns 6 and 29 %), with 4,000
problems 3 and 4 % (7 and 8 %). On the test problems pass@1 was 3.3 % before RL, 5.0 and 4.0 % with
16, 3.6 and 3.1 % with 4,000, all within their errors (0.6 to 2.0); pass@8 was 20 %, and with 16
problems 13 and 11 %. Episodes of 3 turns: 5.5 % before RL; with 4,000 problems 5.5 % after RL of
single responses and 11.7 % after RL in 3 turns (paired by problem +6.2 points, s.e. 3.6: not beyond
noise; pass@4 of that policy is 10.9 %); with 16 problems 9.4 and 6.2 %. Before RL 2 turns (3.9 %)
were no better than pass@2 (6.3 %): SFT on made-up mistakes did not make this policy use hints. An
update in 3 turns took 2.8 times the FLOPs.
"""

import itertools

from ml_collections import ConfigDict

from experiments import rl_algorithms


def get_config(arg: str = '') -> ConfigDict:
  c = rl_algorithms.base(arg)
  c.name = 'environments' + ('_smoke' if arg else '')
  c.seeds = (0,) if arg else (2,)
  c.data.corrected = 0.5
  c.sft.tokens = c.rl.sft_tokens = (36_864,) if arg else (786_432,)
  c.rl.prompts, c.rl.group = (8, 4) if arg else (16, 16)
  c.rl.updates = (2,) if arg else (30,)
  counts = (8, 0) if arg else (16, 128, 0)
  grid = itertools.product((1, 3), counts)
  c.rl.runs = tuple(f'dapo(environments={count}, turns={turns})' for turns, count in grid)
  c.search.strategies, c.search.after_rl = ('episodes',), True
  c.search.policies = c.model.sizes
  c.search.budgets, c.search.runs = (1, 2, 3), 1 if arg else 4
  return c
