"""Pretraining and SFT, expanded into stages of a study: bases, trunks and branches.

    pretrain -> sft (trunk) -> sft (trunk) -> ...
                 |-> sft (branch) -> sample    |-> sft (branch) -> sample

Each branch leaves its trunk where its rate begins to fall, and ends at a budget of tokens.
"""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from scaling.data import vocab as vocabs
from scaling.errors import BadInput
from scaling.model import presets, transformer
from scaling.stages import origin, stage
from scaling.truncation import WHOLE


class End(NamedTuple):
  """The SFT branch of the largest budget of one size, and of its largest budget of unique tokens:
  where test-time compute begins."""

  common: dict  # of its recipe
  name: str
  base: str  # the stage that SFT began from
  branch: str
  bank: str  # its rollout bank on the test problems
  width_rule: float
  branches: dict  # SFT tokens -> the branch of that budget


def model_of(c: ConfigDict, size: str) -> tuple[dict, transformer.ModelConfig]:
  """(what the recipe of the first stage says of the model's origin, its config) of a size.

  BadInput for a vocabulary that is not the model's own.
  """
  options = {k: v for k, v in c.model.items() if k != 'sizes'}
  vocab_size = vocabs.check(c.data.vocab, c.data.style == 'chat')
  if not c.init_from:
    return {}, presets.model_config(size, vocab_size, **options)
  tokens = c.init_tokens[c.model.sizes.index(size)] if c.init_tokens else None
  begun, model = origin.find(c.init_from.replace('{size}', size), tokens, **options)
  own = _vocabulary(begun)
  if own is not None and not vocabs.same(c.data.vocab, own):
    raise BadInput(
      f'config.data.vocab={c.data.vocab} has other ids than the model in {begun["folder"]} '
      f'learned: set config.data.vocab={own}'
    )
  if vocab_size > model.vocab_size:
    raise BadInput(
      f'config.data.vocab={c.data.vocab} has {vocab_size:,} ids and the model in '
      f'{begun["folder"]} {model.vocab_size:,}: use the tokenizer of that model'
    )
  if model.mup_base and c.optimizer.width_exponent:
    raise BadInput(
      f'config.init_from: the model in {begun["folder"]} has muP, which scales rates by itself: '
      'set config.optimizer.width_exponent=0 with it'
    )
  return {'origin': begun}, model


def _vocabulary(begun: dict) -> str | None:
  """The vocabulary that the model of an origin learned, as config.data.vocab names it: of a stage
  the copy in its workdir. None for a checkpoint without a tokenizer."""
  folder = Path(begun['folder'])
  if begun['kind'] == 'postscale':
    data = json.loads((folder / 'stage.json').read_text())['recipe']['data']
    if data['vocab'] in vocabs.VOCABS:
      return data['vocab']
    return str(stage.data_folder(folder.parent.parent, data) / 'tokenizer')
  from scaling.data import subwords  # the packages that it needs are for tokenizers alone

  return str(folder) if subwords.tokenizers_in(folder) else None


def sampled(c: ConfigDict, pool: str, problems: int, n: int, measure: bool, number=1) -> dict:
  """What the recipe of a bank has beside its model. number: of the round of a chain. Rounds draw
  apart: a policy that learned from the noise of one meets other noise in the next."""
  drawn = dict(c.sample, pool=pool, problems=problems, n=n, measure=measure)
  samples = min(c.sample.block_samples, n)
  rows = min(c.sample.block_rows or samples, samples)
  drawn |= {'round': number - 1} if number > 1 else {}
  return drawn | {'stop': list(c.sample.stop), 'block_samples': samples, 'block_rows': rows}


def truncated(c: ConfigDict) -> dict:
  """What the recipe of a stage that goes on drawing as a bank does has of config.sample's
  truncation: the fields that are not at their defaults."""
  given = {name: c.sample[name] for name in WHOLE._fields}
  return {name: value for name, value in given.items() if value != getattr(WHOLE, name)}


def measure(c: ConfigDict, common: dict, parent: str, name: str, add: Callable) -> str:
  """Adds the bank on the test problems that measures a model; its id."""
  drawn = sampled(c, 'test', c.data.test_problems, c.sample.n, True)
  label = f'{name}: bank of {c.data.test_problems} x {c.sample.n}'
  return add('sample', parent, label, **common, **drawn)


def _steps(tokens: float, rows: int, row_tokens: int) -> int:
  return max(1, round(tokens / (rows * row_tokens)))


def expand(
  c: ConfigDict, seed: int, size: str, pretrained: float, data: dict, add: Callable
) -> End:
  """Adds the stages of one model, pretrained on so many tokens, at one seed.

  data: of its recipes; add: of study.expand.
  """
  begun, model = model_of(c, size)
  tuned = dataclasses.replace(model, lora_rank=c.lora.rank, lora_alpha=float(c.lora.alpha))
  width_rule = (64 / model.d_model) ** c.optimizer.width_exponent
  common = dict(
    seed=seed,
    preset=size,
    model=dataclasses.asdict(tuned),
    data=data,
    optimizer={k: v for k, v in c.optimizer.items() if k != 'width_exponent'},
  )
  name = f'{size} seed {seed}'
  if len(c.pretrain.tokens) > 1:
    name += f', {pretrained:,.0f} pretrained'

  def train(kind, parent, label, part, **where) -> str:
    recipe = common | where
    return add(
      kind, parent, label, **recipe, rows=part.rows, warmup=part.warmup_steps,
      learning_rate=part.learning_rate * width_rule,
    )  # fmt: skip

  end = _steps(pretrained, c.pretrain.rows, c.data.row_tokens) if pretrained else 0
  base = train(
    'pretrain', None, f'{name}: pretrain {end} steps', c.pretrain, pool='pretrain', start=0,
    stop=end, end=end, decay=math.ceil(c.pretrain.decay * end), measure=False,
    model=dataclasses.asdict(model), **begun,
  )  # fmt: skip
  ends = {t: _steps(t, c.sft.rows, c.data.row_tokens) for t in sorted(c.sft.tokens)}
  for unique in sorted(c.sft.unique_tokens) or (None,):  # the last, the largest, is the End
    part, of = {'pool': 'sft'}, ''
    if unique is not None:
      part['unique'] = round(unique / c.data.row_tokens)
      of = f' of {unique:,.0f} unique'
    trunk, at, root, branches = base, 0, '', {}
    for tokens, end in ends.items():
      decay = math.ceil(c.sft.decay * end)
      start = end - decay
      if start > at:  # the trunk goes on to where this branch leaves it
        trunk = train(
          'sft', trunk, f'{name}: sft trunk{of} to step {start}', c.sft, **part, start=at,
          stop=start, end=None, decay=0, measure=False, trunk=root,
        )  # fmt: skip
        at, root = start, root or trunk
      branch = train(
        'sft', trunk, f'{name}: sft {tokens:,.0f} tokens{of}', c.sft, **part, start=at, stop=end,
        end=end, decay=end - at, measure=True, trunk=root,
      )  # fmt: skip
      bank = measure(c, common, branch, f'{name}: sft {tokens:,.0f}{of}', add)
      branches[tokens] = branch
  return End(common, name, base, branch, bank, width_rule, branches)
