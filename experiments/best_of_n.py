"""Best of n: which samples are right, said by reward models, by likelihood, by votes?

    python run.py --config=experiments/best_of_n.py --workdir=results/test_time

Time: on 2 cores with other work beside it, the base (pretraining, SFT and banks, of two sizes) 4
minutes, once for all experiments on test-time compute; the reward models of both sizes 3 more.

Seen at seed 2, 75k policy, 128 problems x 64 samples, pass@1 63.6 %: log-prob picks a right answer
of 16 for 79.1 % (95 % 72.1 to 85.7), a vote for 75.7 % (69.7 to 82.0); pass@16 is 93.8 %. Reward
models of verdicts and steps rank problems (AUC over all samples .78 and .77 of 25k, .76 and .67 of
75k, s.e. .02 to .03) and not samples of one (.47, .49, .46, .48, s.e. .03), so the best of 16 by
them falls to 36 to 40 %. Those of pairs do neither (AUC .53 and .46, within a problem .52 and .50):
the one of 75k learned its pairs by heart (loss .69 to .26) and ranked held-out ones no better than
chance (.57, s.e. .05), which its calibration says by a slope of 0; the best of 16 by them is right
for 42 and 44 %. Votes weighted by any of the six are plain votes, 74 to 76 %.

The problems that they learn from are of the same task and not alike: of one-digit sums, 46 % of the
test problems, SFT leaves none to them. On those alone they do not rank problems either (AUC .46 to
.55). On two-digit sums all is as above: pass@1 77.9 %, log-prob 88.7, a vote 86.5; AUC .82 to .85
and within a problem .49 to .55 (s.e. .05), the best of 16 by them 49 to 57 %.

Earlier draws, of pass@1 36 and 48 %, said the same.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def base(arg: str = '') -> ConfigDict:
  """One model fine-tuned on sums, some of them after an earlier attempt: the base of all six
  experiments on test-time compute, which share its stages in one workdir."""
  c = quickstart.get_config(arg)
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.data.attempts = 0.25
  c.data.test_problems = 16 if arg else 128
  c.data.reward_problems = 64 if arg else 2_048
  c.model.sizes = ('25k',) if arg else ('25k', '75k')
  c.sft.tokens = (36_864,) if arg else (4_194_304,)
  c.sample.n = c.sample.block_samples = 32 if arg else 64
  return c


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('best_of_n', arg)
  c = base(arg)
  c.name = 'best_of_n' + ('_smoke' if arg else '')
  c.scorers.n, c.scorers.per_problem, c.scorers.epochs = 8, 1, 3.0
  c.scorers.learning_rate = 2e-3
  c.scorers.objectives = ('pairs', 'outcome', 'process')
  c.scorers.sizes = c.model.sizes
  c.scorers.policies = (c.model.sizes[-1],)
  return c
