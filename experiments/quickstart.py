"""The whole road in minutes on two CPU cores: pretrain, SFT, RL, sampling, laws, frontier.

    python run.py --config=experiments/quickstart.py --workdir=results/quickstart
    python run.py --config=experiments/quickstart.py:smoke --workdir=results/smoke

Time: 5 min 32 s on 2 cores, report included, 7.5 min on a slow day; the smoke variant about one.

Sizes and budgets were chosen on seeds 0 and 1 (docs/lab-log.md). Seen at seed 2: held-out loss
falls with tokens at all sizes and with size at all budgets; the joint law misses the held-out
corner by 2.3 points of pass@k, the nearest fitted cell by 23.3, a law for each k by 8.2; pass@32 is
missed by 0.9 points by a beta-binomial of the banks thinned to 8 samples, by 14.6 by
exp(-a k^-b); 90 updates of RL are within noise on pass@1 over both parents (-0.1 points, 95 % -0.5
to +0.4; +0.5, -0.3 to +1.3); the best split of 0.88, 5.8 and 39 TFLOP for 100k queries solves 6.4,
12.3 and 21.4 %, and gives sampling 71, 33 and 90 %. One seed: 400k after the most tokens solves
12.7 %, and at seed 0 46.9.
"""

from ml_collections import ConfigDict

from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('quickstart', arg)
  c = config.default()
  c.name = 'quickstart'
  c.seeds = (2,)  # the choices below were made on seeds 0 and 1
  c.data.task = 'chain_sum(min_terms=3,max_terms=3,min_digits=2,max_digits=2)'
  c.data.row_tokens = 72
  c.data.sft_problems = 72_000
  c.pretrain.tasks = ('chain_sum(min_terms=2,max_terms=2,min_digits=2,max_digits=2)',)
  c.pretrain.examples = 10_000
  c.pretrain.tokens = (262_144,)
  c.model.sizes = ('25k', '75k', '400k')
  c.sft.tokens = (98_304, 196_608, 393_216, 786_432, 1_572_864)
  c.rl.algorithm = 'dapo'
  c.rl.sizes = ('75k',)
  c.rl.sft_tokens = (393_216, 1_572_864)
  c.rl.prompts = 32
  c.rl.warmup_steps = 20
  c.rl.updates = (15, 30, 60, 90)
  if arg == 'smoke':  # every kind of stage, in a minute; its numbers mean nothing
    c.name = 'quickstart_smoke'
    c.seeds = (0,)
    c.data.sft_problems, c.data.rl_problems, c.data.validation_problems = 2_000, 200, 64
    c.data.test_problems = 16
    c.pretrain.examples, c.pretrain.tokens = 1_000, (9_216,)
    c.model.sizes, c.rl.sizes = ('25k', '75k'), ('25k',)
    c.sft.tokens, c.rl.sft_tokens = (9_216, 18_432, 36_864), (36_864,)
    c.rl.updates = (2, 4)
    c.sample.n, c.sample.block_samples = 32, 32
  return c
