"""Self-rewarding: does a policy get better by DPO on pairs that it chose itself?

    python run.py --config=experiments/self_rewarding.py --workdir=results/test_time

Four chains of three rounds from one SFT branch, each round on fresh samples of its policy, labelled
by its own verdict on a response, by a vote among its samples, by its own log-probability, and, for
comparison, by the verifier. The verifier on the test problems measures all of them.

Time: planned as 7 minutes on 2 idle cores with its base, not run to its end at this size.

Seen smaller, at one seed (2): 25k, sums of two terms (row_tokens 48, 6,000 SFT problems, 786k SFT
tokens, 2,000 examples and 66k tokens of pretraining), 256 x 8 fresh samples a round, two rounds,
128 test problems x 32. pass@1 6.8 % before; change over it, paired by problem, +- standard error,
after one and two rounds: verifier +0.2 +- 0.5 and +0.6 +- 0.7 points, likelihood +0.7 +- 0.6 and
+0.1 +- 0.7, majority +0.1 +- 0.4 and -1.3 +- 0.5, its own verdict -0.8 +- 0.4 and -3.8 +- 0.7. No
chain gains beyond noise; those that learn from votes or from their own verdicts lose, and pass@8
falls with them (30.5 % to 23.5 and 17.8 %); why was not tested. The verifier had pairs of 88 of 256
problems in the first round, the others of nearly all. Rates were not tuned.
"""

from ml_collections import ConfigDict

from experiments import best_of_n


def get_config(arg: str = '') -> ConfigDict:
  c = best_of_n.base(arg)
  c.name = 'self_rewarding' + ('_smoke' if arg else '')
  c.dpo.feedback = ('self', 'majority', 'likelihood', 'verifier')
  c.dpo.sizes = (c.model.sizes[-1],)
  c.model.sizes = c.dpo.sizes
  c.dpo.rounds = 3
  if arg:
    c.dpo.problems, c.dpo.n, c.dpo.rounds = 16, 8, 1
  return c
