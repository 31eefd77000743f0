"""The smallest study that has every kind of stage: seconds, most of them compiling."""

from scaling import config


def get_config(arg: str = ''):
  c = config.default()
  c.name = 'tiny'
  c.data.sft_problems, c.data.rl_problems = 400, 64
  c.data.validation_problems, c.data.test_problems = 32, 4
  c.data.row_tokens = 32
  c.pretrain.tasks = ('chain_sum(min_terms=2,max_terms=2,min_digits=1,max_digits=2)',)
  c.pretrain.examples, c.pretrain.tokens, c.pretrain.rows = 200, (1024,), 8
  c.pretrain.warmup_steps = c.sft.warmup_steps = 2
  c.model.sizes = ('25k',)
  c.sft.tokens, c.sft.rows = (1024, 2048), 8
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (2, 3), ('25k',), (2048,)
  c.rl.prompts, c.rl.group, c.rl.minibatches, c.rl.temperature = 4, 4, 2, 0.7
  c.sample.n, c.sample.block_prompts, c.sample.block_samples = 8, 2, 4
  c.sample.block_rows = 3
  c.mesh.data = 1
  return c
