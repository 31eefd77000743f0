"""Best of n: which samples are right, said by reward models, by likelihood, by votes?

    python run.py --config=experiments/best_of_n.py --workdir=results/test_time

Time: the base (pretraining, SFT and a bank, of two sizes) about 5 minutes on 2 cores, once for all
experiments on test-time compute; the reward models of one size 3 more.

Seen at seed 2, 75k policy and reward models, 128 problems x 64 samples, pass@1 48 %: log-prob picks
a right answer of 16 for 59 %, a vote for 57 %. Reward models rank problems (AUC .73 and .75) and
not samples of one (.51 outcome, .49 process), so the best of 16 by them falls to 35 to 37 %; the
one of pairs memorised its pairs (loss 0.69 to 0.22) and ranked held-out ones no better than chance,
which its calibration says by a slope of 0. Their problems are of the same task and not alike: of
one-digit sums, half of the test pool, SFT leaves none to them.

Seen again at seed 2 on a base whose rows are packed otherwise, pass@1 35.5 %: log-prob 47.9 % of
16, a vote 45.1; AUC .81 and .80 over all samples, .52 and .48 (s.e. .03) within a problem; the best
of 16 by reward models of 25k and 75k 15 to 23 %, votes weighted by them 43 to 45.
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
