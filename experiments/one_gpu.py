"""The quickstart's road, for one GPU: 400k to 16M parameters, up to 25M SFT tokens, 3.8 PFLOP.

    python run.py --config=experiments/one_gpu.py --workdir=results/one_gpu

Sums of four terms of two or three digits, worked step by step; no pretraining; bfloat16.

Time: 5 minutes on one H200, seen in two pieces, report and compiling included, and 2 minutes of a
CPU core for the data. On two CPU cores it would take two days; the smoke variant
takes a minute and a half.

Seen at seed 2 (docs/results/one-gpu-loss.png, one-gpu-frontier.png); share of samples that are
right, %, and held-out loss in nats a response token:

    SFT tokens       1.6M           4.2M           10.5M          25.2M
    400k          0.3  1.668     0.4  0.658     1.8  0.469    58.1  0.0379
    4m            0.2  1.537     0.9  0.549     3.6  0.373    95.5  0.0015
    16m           0.2  1.375     1.1  0.525    41.6  0.070    98.9  0.0006

The skill comes at once, at 10M tokens for 16m and after that for the others, and no law fitted
before it foretells it: without 16m at 25M tokens the loss law misses that loss by 410 % and the
joint law its pass@k by 54 points (the nearest cell by 78). Standard errors are 3 points or less,
over problems. Best splits for a million queries, chosen on half of the problems and scored on the
rest: 210 TFLOP, 400k and the likeliest of 4 samples, 76.7 % (95 % 69.8 to 82.8), 38 % of it SFT;
1.2 PFLOP, 4m and the likelier of 2, 96.5 % (93.1 to 98.8), 52 %; 6.3 PFLOP, 16m and the likeliest
of 4, 99.5 % (97.5 to 100), 38 %. Sixty updates of RL of 4m, of 1,024 samples each, change nothing
where 0.2 % of samples are right, and cost 1.1 points (0.5 to 1.8) where 3.6 % are: RL found no
skill here that more SFT tokens give. Its rate was not tuned. One seed.
"""

from ml_collections import ConfigDict

from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('one_gpu', arg)
  smoke = arg == 'smoke'
  c = config.default()
  c.name = 'one_gpu' + ('_smoke' if smoke else '')
  c.seeds = (2,)
  c.data.task = 'chain_sum(min_terms=4,max_terms=4,min_digits=2,max_digits=3)'
  c.data.row_tokens = 128
  c.data.sft_problems = 620_000
  c.data.rl_problems = 8_000
  c.data.test_problems = 128
  c.model.sizes = ('400k', '4m', '16m')
  c.model.dtype = 'bfloat16'
  c.sft.rows = 256
  c.sft.tokens = (1_572_864, 4_194_304, 10_485_760, 25_165_824)
  c.sft.learning_rate = 4e-3
  c.rl.sizes, c.rl.sft_tokens = ('4m',), (c.sft.tokens[0], c.sft.tokens[2])
  c.rl.algorithm, c.rl.updates = 'dapo', (15, 30, 60)
  c.rl.prompts, c.rl.group = 64, 16
  c.rl.learning_rate, c.rl.warmup_steps = 3e-4, 10
  c.rl.response_tokens = c.sample.response_tokens = 48
  c.sample.block_prompts, c.sample.block_samples = 32, 128
  if smoke:
    c.data.sft_problems, c.data.rl_problems, c.data.test_problems = 4_000, 200, 32
    c.model.sizes = c.rl.sizes = ('25k',)
    c.sft.rows = 8
    c.sft.tokens = c.rl.sft_tokens = (32_768,)
    c.rl.updates = (2,)
    c.rl.prompts, c.rl.group = 8, 4
    c.sample.n, c.sample.block_samples = 8, 8
  return c
