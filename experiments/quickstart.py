"""The whole road in minutes on two CPU cores: pretrain, SFT, RL, sampling, laws, frontier."""

from ml_collections import ConfigDict

from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  c = config.default()
  c.name = 'quickstart'
  c.seeds = (2,)
  c.data.task = 'chain_sum(min_terms=3,max_terms=3,min_digits=2,max_digits=2)'
  c.pretrain.tasks = ('chain_sum(min_terms=2,max_terms=2,min_digits=1,max_digits=2)',)
  c.pretrain.examples = 10_000
  c.pretrain.tokens = 262_144
  c.model.sizes = ('25k', '150k', '800k')
  c.sft.tokens = (65_536, 131_072, 262_144, 524_288, 1_048_576)
  c.rl.sizes = ('25k', '150k')
  c.rl.sft_tokens = (262_144, 1_048_576)
  c.rl.updates = (5, 10, 20, 30, 40)
  return c
