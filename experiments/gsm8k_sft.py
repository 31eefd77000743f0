"""Real text: python run.py --config=experiments/gsm8k_sft.py"""

from ml_collections import ConfigDict

from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  smoke = arg == 'smoke'
  path = 'gsm8k/train.jsonl' if smoke or not arg else arg
  c = config.default()
  c.name = 'gsm8k_sft'
  c.data.task = f'jsonl(path={path!r})'
  c.data.style = 'full'
  c.data.vocab = 'bytes'
  c.data.row_tokens = 768
  c.data.long_examples = 'drop'
  c.data.sft_problems = 6_000
  c.data.rl_problems = 0
  c.data.validation_problems = 256
  c.data.test_problems = 8
  c.model.sizes = ('25k', '150k', '400k')
  c.sft.rows = 8
  c.sft.tokens = (98_304, 196_608, 393_216, 786_432)
  c.sample.n = 8
  c.sample.response_tokens = 128
  c.sample.block_prompts = 8
  c.sample.block_samples = 8
  return c
