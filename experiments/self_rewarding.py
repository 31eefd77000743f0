"""Self-rewarding: does a policy get better by DPO on pairs that it chose itself?

    python run.py --config=experiments/self_rewarding.py --workdir=results/test_time

Four chains of three rounds from one SFT branch, each round on fresh samples of its policy, labelled
by its own verdict on a response, by a vote among its samples, by its own log-probability, and, for
comparison, by the verifier. The verifier on the test problems measures all of them.

Time: about 5 minutes of CPU from the cached base.

Seen at seed 2, 75k, 128 test problems x 64; before, pass@1 16.5 % and pass@16 76.8 %. Change of
pass@1 after one and three rounds with its 95 % interval, paired by problem, and pass@16 at the end:

    its own verdict     -2.3 points (-4.9 to +0.1)    -8.2 (-11.7 to -4.5)    32.5 %
    its likelihood      +0.4        (-1.8 to +2.8)    -6.7 (-10.0 to -2.9)    26.9 %
    a vote              -0.8        (-3.1 to +1.6)    -5.1 (-8.1 to -1.7)     32.9 %
    the verifier        +0.1        (-1.8 to +2.1)    -5.6 (-8.2 to -3.1)     48.6 %

No round of any chain gains, and the third has lost in all of them, the verifier's too: so it is not
the labels alone. Coverage is what the verifier keeps more of. Rates and beta were not tuned.

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
