"""The whole road in minutes on two CPU cores: pretrain, SFT, RL, sampling, laws, frontier.

    python run.py --config=experiments/quickstart.py --workdir=results/quickstart
    python run.py --config=experiments/quickstart.py:smoke --workdir=results/smoke

Time: 7 min 29 s on 2 cores on a slow day, report included; the smoke variant about one minute.

Task, sizes and budgets were chosen on seeds 0 and 1, the rate of RL on seed 0 (docs/lab-log.md).
Seen at seed 2: held-out loss falls with tokens at all sizes and from 25k to 400k at all budgets;
the joint law misses the held-out corner by 17.6 points of pass@k, the nearest fitted cell by 23.3,
a law for each k by 7.3; 90 updates of RL are within noise on pass@1 over both parents (+0.3 points,
95 % -1.1 to +1.8; +1.5, -3.0 to +6.4); the best split of 0.79, 5.2 and 34 TFLOP for 100k queries
solves 13, 19 and 27 %, and gives sampling 68, 80 and 89 %. One seed, and one rounding: on one
device, where sums are in another order, RL had gained 2.3 points (0.3 to 4.3) over one of them.
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
