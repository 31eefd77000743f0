"""The schema of an experiment: every field with its meaning and default, and what makes it valid.

An experiment file defines `get_config(arg) -> ConfigDict`: it takes `default()`, sets what differs
and returns it. Unknown keys and wrong types are refused by the ConfigDict itself; `validate` checks
what types cannot say. All budgets are resolved into whole steps once, by `study.expand`.

A token budget counts positions of packed rows (rows x row_tokens a step; a few per cent of them are
padding). Records hold the tokens that were really there.
"""

import difflib
import itertools

from ml_collections import ConfigDict

from scaling.data.batches import LONG_EXAMPLES
from scaling.errors import BadInput
from scaling.model.presets import PRESETS


def default() -> ConfigDict:
  """A study with every field at its default: small, valid, and with no RL."""
  c = ConfigDict()
  c.name = 'study'  # names the study within its workdir
  c.seeds = (0,)  # each seed is the whole crossed study over again

  c.data = ConfigDict()
  # A task of scaling/data/tasks.py with its arguments, or jsonl(path='…/train.jsonl').
  c.data.task = 'chain_sum(min_terms=3,max_terms=3,min_digits=2,max_digits=2)'
  c.data.style = 'short'  # the prompt: 'short', a bare expression, or 'full', the task's own words
  c.data.vocab = 'arithmetic'  # characters of scaling/data/vocab.py: arithmetic, ascii or bytes
  c.data.row_tokens = 64  # positions of a packed row: the longest example a model can see
  c.data.long_examples = 'error'  # those longer than a row: 'error', or 'drop' (counted)
  c.data.seed = 0  # draws the problems; one draw serves all seeds of a study
  c.data.sft_problems = 40_000  # distinct problems with solutions to fine-tune on
  c.data.rl_problems = 4_000  # distinct problems whose prompts RL draws from
  c.data.validation_problems = 512  # held out, for the loss
  c.data.test_problems = 64  # held out, for the rollout bank: the same for every cell

  c.model = ConfigDict()
  c.model.sizes = ('25k', '150k')  # presets of scaling/model/presets.py, smallest first
  c.model.qk_norm = False
  c.model.qkv_bias = False
  c.model.tied_embeddings = True
  c.model.rope_theta = 10_000.0
  c.model.dtype = 'float32'  # of the matmuls

  c.optimizer = ConfigDict()  # AdamW; see train_step.OptimizerConfig
  c.optimizer.b1 = 0.9
  c.optimizer.b2 = 0.98
  c.optimizer.weight_decay = 0.01
  c.optimizer.clip_norm = 1.0
  # A rate is given for width 64; a model of width d gets rate x (64 / d) ^ width_exponent.
  c.optimizer.width_exponent = 1.0

  c.pretrain = ConfigDict()
  c.pretrain.tasks = ()  # a mixture at equal rates; loss on every token; () starts SFT from scratch
  c.pretrain.examples = 10_000  # distinct examples of the mixture
  c.pretrain.tokens = 0
  c.pretrain.rows = 16  # packed rows in a batch
  c.pretrain.learning_rate = 2e-3
  c.pretrain.warmup_steps = 20
  c.pretrain.decay = 0.2  # the last part of a budget over which the rate falls to 0

  c.sft = ConfigDict()
  c.sft.tokens = (65_536, 131_072, 262_144)  # budgets: one trunk, and a decay branch for each
  c.sft.rows = 16
  c.sft.learning_rate = 2e-3
  c.sft.warmup_steps = 20
  c.sft.decay = 0.2
  c.sft.microbatches = 1  # gradient accumulation: parts that a batch is cut into

  c.rl = ConfigDict()  # GRPO with the task's verifier, on-policy, at constant rate
  c.rl.updates = ()  # where one run is measured; () for no RL
  c.rl.sizes = ()  # the model sizes it starts from
  c.rl.sft_tokens = ()  # the SFT budgets it starts from
  c.rl.prompts = 16  # prompts in an update
  c.rl.group = 16  # samples of each prompt
  c.rl.minibatches = 1  # optimiser steps that an update's rollouts are cut into
  c.rl.learning_rate = 1e-4  # for width 64, as above
  c.rl.temperature = 1.0
  c.rl.response_tokens = 18  # the longest response, its stop token counted
  c.rl.clip_low = 0.2
  c.rl.clip_high = 0.2
  c.rl.kl_coef = 0.0  # weight of the k3 penalty to the SFT parent, a term of the loss

  c.sample = ConfigDict()  # the rollout bank drawn for every cell
  c.sample.n = 128  # samples of each test problem
  c.sample.temperature = 1.0
  c.sample.response_tokens = 18
  c.sample.block_prompts = 4  # the compiled shape: prompts x samples at a time;
  c.sample.block_samples = 128  # a prompt is prefilled once for each block

  c.mesh = ConfigDict()  # device counts along each axis of scaling/sharding.py
  c.mesh.data = 1
  c.mesh.fsdp = 1
  c.mesh.tensor = 1

  c.checkpoint_seconds = 30.0  # between checkpoints of a running stage
  return c.lock()


def near(name: str, known) -> str:
  """'nearest: …' for an error message about an unknown name."""
  close = difflib.get_close_matches(str(name), [str(k) for k in known], n=2, cutoff=0.3)
  return 'nearest: ' + ', '.join(close) if close else 'known: ' + ', '.join(map(str, known))


def _require(ok: bool, message: str) -> None:
  if not ok:
    raise BadInput(message)


def validate(c: ConfigDict) -> None:
  """BadInput, one line that names the key, for a study that cannot run as it is written."""
  for key in ('seeds', 'model.sizes', 'sft.tokens'):
    section = c
    for part in key.split('.'):
      section = section[part]
    _require(len(section) > 0, f'config.{key} is empty: give at least one value')
    _require(len(set(section)) == len(section), f'config.{key} has a value twice: {section}')
  _require(
    bool(c.name) and c.name.replace('_', '').replace('-', '').isalnum(),
    f'config.name is {c.name!r}: use letters, digits, - and _ (it names a file)',
  )
  for size in itertools.chain(c.model.sizes, c.rl.sizes):
    _require(size in PRESETS, f'config.model.sizes: unknown preset {size!r}; {near(size, PRESETS)}')
  for size in c.rl.sizes:
    _require(size in c.model.sizes, f'config.rl.sizes: {size!r} is not among config.model.sizes')
  for tokens in c.rl.sft_tokens:
    _require(
      tokens in c.sft.tokens, f'config.rl.sft_tokens: {tokens:g} is not among config.sft.tokens'
    )
  if c.rl.updates:
    _require(
      bool(c.rl.sizes) and bool(c.rl.sft_tokens),
      'config.rl.updates is set: say where RL starts, in config.rl.sizes and config.rl.sft_tokens',
    )
    _require(c.rl.group >= 2, f'config.rl.group is {c.rl.group}: a group baseline needs 2 or more')
    rows = c.rl.prompts * c.rl.group
    _require(
      rows % c.rl.minibatches == 0,
      f'config.rl.minibatches ({c.rl.minibatches}) does not divide prompts x group ({rows})',
    )
  for stage in ('pretrain', 'sft'):
    part = c[stage]
    _require(0 < part.decay <= 1, f'config.{stage}.decay is {part.decay}: a part in (0, 1]')
  per_step = c.sft.rows * c.data.row_tokens
  for tokens in c.sft.tokens:
    _require(
      tokens >= per_step,
      f'config.sft.tokens has {tokens:g}, less than one batch of sft.rows x data.row_tokens = '
      f'{per_step}',
    )
  _require(
    c.sft.rows % c.sft.microbatches == 0,
    f'config.sft.microbatches ({c.sft.microbatches}) does not divide config.sft.rows '
    f'({c.sft.rows})',
  )
  _require(
    bool(c.pretrain.tasks) == (c.pretrain.tokens > 0),
    'config.pretrain.tokens and config.pretrain.tasks: set both, or neither to start from scratch',
  )
  positive = [
    'data.row_tokens', 'data.test_problems', 'data.validation_problems', 'sft.rows',
    'sft.learning_rate', 'pretrain.rows', 'rl.prompts', 'rl.learning_rate', 'rl.response_tokens',
    'rl.minibatches', 'sft.microbatches', 'sample.n', 'sample.response_tokens',
    'sample.block_prompts', 'sample.block_samples', 'checkpoint_seconds', 'mesh.data', 'mesh.fsdp',
    'mesh.tensor', 'sample.temperature', 'rl.temperature',
  ]  # fmt: skip
  for key in positive:
    section = c
    for part in key.split('.'):
      section = section[part]
    _require(section > 0, f'config.{key} is {section}: it must be more than 0')
  _require(
    c.sample.n % c.sample.block_samples == 0,
    f'config.sample.block_samples ({c.sample.block_samples}) does not divide config.sample.n '
    f'({c.sample.n}): banks are drawn in whole blocks',
  )
  _require(
    c.data.test_problems % c.sample.block_prompts == 0,
    f'config.sample.block_prompts ({c.sample.block_prompts}) does not divide '
    f'config.data.test_problems ({c.data.test_problems}): banks are drawn in whole blocks',
  )
  _require(
    c.data.long_examples in LONG_EXAMPLES,
    f'config.data.long_examples is {c.data.long_examples!r}: '
    f'{" or ".join(map(repr, LONG_EXAMPLES))}',
  )
