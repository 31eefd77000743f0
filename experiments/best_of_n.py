"""Best of n: which samples are right, said by reward models, by likelihood, by votes?

    python run.py --config=experiments/best_of_n.py --workdir=results/test_time

Time: on 2 cores, the base (pretraining, SFT and banks, of two sizes) 2 minutes, once for all
experiments on test-time compute; the reward models of both sizes 3 more.

Seen at seed 2, 75k policy, 128 problems x 64 samples, pass@1 53.9 %: log-prob picks a right answer
of 16 for 71.7 % (95 % 63.8 to 79.4), a vote for 68.4 % (61.2 to 75.1); pass@16 is 93.3 %. Reward
models of verdicts and steps rank problems (AUC over all samples .81 and .80 of 25k, .82 and .81 of
75k, s.e. .02) and not samples of one (.52, .48, .52, .51, s.e. .03), so the best of 16 by them
falls to 27 to 31 %. Those of pairs do neither well (AUC .45 and .65, s.e. .03, within a problem .52
and .51): the one of 75k learned its pairs by heart (loss .69 to .31, means of 35 updates) and ranks
held-out samples of a problem no better than chance (.46, s.e. .03), which its calibration says by a
slope of .06 (of verdicts .83); the best of 16 by them is right for 30 and 29 %. Votes weighted by
any of the six are plain votes, 68 to 69 %.
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
