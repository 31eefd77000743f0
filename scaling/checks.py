"""What makes an experiment's config valid.

`validate` refuses a study that cannot run, in one line that names the key: first each field by
itself (`scaling.fields`), then those that depend on each other. What reward models, searches, RL,
rounds of DPO and self-training must fulfil stands where they are expanded, as their `check`.
"""

import itertools
import math
import urllib.parse

from ml_collections import ConfigDict

from scaling import fields, reinforcement, rounds, self_training, test_time
from scaling.data.batches import CONTAMINATION, LONG_EXAMPLES, LOSS_ON
from scaling.data.vocab import VOCABS
from scaling.errors import require
from scaling.model.presets import PRESETS
from scaling.model.transformer import REMAT

PROVIDERS = ('anthropic', 'openai')  # see scaling/hosted/client.py
JUDGING = ('score', 'pairs')  # see scaling/rewards/judge.py
ATTENTION = ('auto', 'plain', 'cudnn', 'splash')  # see scaling/model/attention.py


def _check_divides(c: ConfigDict) -> None:
  """BadInput for counts that are not whole multiples of the parts they are cut into."""
  whole = {
    'sample.block_samples': ('config.sample.n', c.sample.n),
    'sample.block_prompts': ('config.data.test_problems', c.data.test_problems),
  }
  values = fields.flat(c)
  divisions = [(key, *what) for key, what in whole.items()]
  divisions += [('mechanics.microbatches', *batch) for batch in batches_of(c)]
  for key, name, count in divisions:
    require(
      count % values[key] == 0,
      f'config.{key} ({values[key]}) does not divide {name} ({count}): each part must be whole',
    )


def batches_of(c: ConfigDict) -> list[tuple[str, int]]:
  """(what it is called, rows) of the batch of every kind of training that a study has."""
  batches = [('config.sft.rows', c.sft.rows)]
  if c.pretrain.tokens:
    batches.append(('config.pretrain.rows', c.pretrain.rows))
  for _, one in reinforcement.runs(c):
    rows = one.rl.prompts * one.rl.group // one.rl.minibatches
    batches.append(('config.rl.prompts x group / minibatches', rows))
  if c.scorers.objectives:
    batches.append(('config.scorers.rows', c.scorers.rows))
  if c.dpo.feedback or any(text.startswith('spin') for text in c.synthetic.runs):
    batches.append(('config.dpo.rows', c.dpo.rows))
  return batches


def response_lengths(c: ConfigDict) -> list[tuple[str, int]]:
  """(what it is called, tokens) of the longest response of every kind that a study draws."""
  lengths = [('sample', c), *(('rl', one) for _, one in reinforcement.runs(c))]
  lengths += [('search', c)] * bool(c.search.strategies)
  return [(f'{section}.response_tokens', of[section].response_tokens) for section, of in lengths]


def axes(c: ConfigDict, devices: int) -> dict[str, int]:
  """The device counts of config.mesh, for a machine with so many devices. Where mesh.data is 0 it
  is the greatest that the other axes leave, and over which the rows of every batch split."""
  sizes = dict(c.mesh)
  if sizes['data'] == 0:
    others = math.prod(size for axis, size in sizes.items() if axis != 'data')
    most = 1 if c.hosted.model else max(devices // others, 1)
    sizes['data'] = max(n for n in range(1, most + 1) if n == 1 or not _hinder(c, n))
  return sizes


def _hinder(c: ConfigDict, data: int) -> list[str]:
  """What has a number of rows that does not split over so many devices along the data axis."""
  rows = [('config.sample.block_prompts', c.sample.block_prompts)]
  learned = batches_of(c)
  for _, one in reinforcement.runs(c):
    learned.append(('config.rl.prompts / minibatches', one.rl.prompts // one.rl.minibatches))
  parts = c.mechanics.microbatches
  per = ' / mechanics.microbatches' if parts > 1 else ''
  rows += [(name + per, count // parts) for name, count in learned]
  short = [f'{name} ({count})' for name, count in rows if count % (data * c.mesh.fsdp)]
  return list(dict.fromkeys(short))


def idle(c: ConfigDict, devices: int) -> str:
  """A line where rows that do not split leave devices idle: how many, and what would take more of
  them; '' where all are taken, or as many as config.mesh says."""
  sizes = axes(c, devices)
  taken = math.prod(sizes.values())
  others = taken // sizes['data']
  if c.mesh.data or c.hosted.model or taken + others > devices:
    return ''
  more = range(sizes['data'] + 1, devices // others + 1)
  n, short = min(((n, _hinder(c, n)) for n in more), key=lambda found: (len(found[1]), -found[0]))
  words = f'on {taken} of {devices} devices'
  if len(short) > 2:  # too many to change for one more count
    return f'{words}, as far as the rows of every batch split over them'
  return f'{words}: for {n * others} make {" and ".join(short)} a multiple of {n * c.mesh.fsdp}'


def _check_hosted(c: ConfigDict) -> None:
  """BadInput for a study of a hosted model that cannot run."""
  require(
    c.data.style == 'full',
    f"config.data.style is {c.data.style!r}: a hosted model reads the task's own words; set 'full'",
  )
  for section in ('hosted', 'judge'):
    part = c[section]
    require(
      part.provider in PROVIDERS,
      f'config.{section}.provider is {part.provider!r}: one of {", ".join(map(repr, PROVIDERS))}',
    )
    url = urllib.parse.urlsplit(part.base_url)
    require(
      not part.base_url or (url.scheme in ('http', 'https') and bool(url.hostname)),
      f'config.{section}.base_url is {part.base_url!r}: it must be like http://localhost:8000/v1',
    )
    require(  # what is in a config is written down
      '@' not in url.netloc and not url.query and not url.fragment,
      f'config.{section}.base_url has a user, a password or a query in it, and is written into the '
      'workdir: give the address alone, and the key in the environment',
    )
  require(
    c.judge.method in JUDGING,
    f'config.judge.method is {c.judge.method!r}: one of {", ".join(map(repr, JUDGING))}',
  )
  require(
    not c.judge.model or c.judge.method != 'pairs' or c.hosted.n >= 2,
    "config.judge.method is 'pairs' and config.hosted.n is 1: there is nothing to compare",
  )
  require(
    c.hosted.cap_money == 0 or c.hosted.input_price + c.hosted.output_price > 0,
    'config.hosted.cap_money is set and no price is: set config.hosted.input_price, output_price',
  )
  require(
    c.hosted.cap_money == 0 or not c.judge.model or c.judge.input_price + c.judge.output_price > 0,
    'config.hosted.cap_money is set and the judge has no price: set config.judge.input_price and '
    'output_price',
  )


def _check_models(c: ConfigDict) -> None:
  """BadInput for models that cannot be made, or not as the mechanics say."""
  for key, known in (('attention', ATTENTION), ('remat', tuple(REMAT))):
    value = c.mechanics[key]
    require(
      value in known, f'config.mechanics.{key} is {value!r}: one of {", ".join(map(repr, known))}'
    )
  require(
    c.model.mup_base == 0 or c.optimizer.width_exponent == 0,
    'config.model.mup_base scales rates by itself: set config.optimizer.width_exponent=0 with it',
  )
  if c.init_from:
    require(
      len(c.model.sizes) == 1 or '{size}' in c.init_from,
      f'config.init_from is {c.init_from!r}, one folder for {len(c.model.sizes)} sizes: put '
      '{size} where their names differ, or set config.model.sizes to one name',
    )
    require(
      len(c.init_tokens) in (0, len(c.model.sizes)),
      f'config.init_tokens has {len(c.init_tokens)} numbers for {len(c.model.sizes)} sizes: give '
      'one for each, or none',
    )
  else:
    require(not c.init_tokens, 'config.init_tokens is set and config.init_from is not')
  for size in () if c.init_from else c.model.sizes:
    require(
      size in PRESETS, f'config.model.sizes: unknown preset {size!r}; {fields.near(size, PRESETS)}'
    )


def _check_budgets(c: ConfigDict) -> None:
  """BadInput for budgets of tokens that are less than a step, or the same number of steps."""
  require(
    bool(c.pretrain.tasks) == bool(c.pretrain.tokens),
    'config.pretrain.tokens and config.pretrain.tasks: set both, or neither to start from scratch',
  )
  budgets = {
    'sft.tokens': sorted(c.sft.tokens),
    'sft.unique_tokens': sorted(c.sft.unique_tokens),
    'pretrain.tokens': sorted(c.pretrain.tokens),
  }
  for key, tokens in budgets.items():
    stage = key.split('.')[0]
    per_step = c[stage].rows * c.data.row_tokens
    for less, more in itertools.pairwise([0, *tokens]):
      require(
        more >= per_step,
        f'config.{key} has {more:,.0f}, less than one batch of {stage}.rows x '
        f'data.row_tokens = {per_step:,}',
      )
      steps = round(more / per_step)
      require(
        round(less / per_step) < steps,
        f'config.{key} has {less:,.0f} and {more:,.0f}, both {steps} steps of '
        f'{per_step:,} tokens: set them further apart',
      )


def _check_starts_of_rl(c: ConfigDict) -> None:
  """BadInput for sizes and SFT budgets that RL starts from and that the study does not have."""
  sizes = ', '.join(c.model.sizes)
  for size in c.rl.sizes:
    require(
      size in c.model.sizes,
      f'config.rl.sizes: {size!r} is not among config.model.sizes ({sizes}): set config.rl.sizes '
      f'too, say ({c.model.sizes[-1]!r},), or config.rl.updates=() for no RL',
    )
  budgets = ', '.join(f'{tokens:,.0f}' for tokens in c.sft.tokens)
  for tokens in c.rl.sft_tokens:
    require(
      tokens in c.sft.tokens,
      f'config.rl.sft_tokens: {tokens:,.0f} is not among config.sft.tokens ({budgets}): set config.'
      f'rl.sft_tokens too, say ({max(c.sft.tokens):.12g},), or config.rl.updates=() for no RL',
    )


def validate(c: ConfigDict) -> None:
  """BadInput, one line that names the key, for a study that cannot run as it is written."""
  fields.check(c)
  require(
    bool(c.name) and c.name.replace('_', '').replace('-', '').isalnum(),
    f'config.name is {c.name!r}: use letters, digits, - and _ (it names a file)',
  )
  for key, value, known in (
    ('data.long_examples', c.data.long_examples, LONG_EXAMPLES),
    ('data.contamination', c.data.contamination, CONTAMINATION),
    ('sft.loss_on', c.sft.loss_on, LOSS_ON),
  ):
    require(value in known, f'config.{key} is {value!r}: {" or ".join(map(repr, known))}')
  require(
    bool(c.pretrain.tasks) or not (c.pretrain.rates or c.pretrain.temperature),
    'config.pretrain.rates or temperature is set and config.pretrain.tasks is empty: name them',
  )
  require(
    bool(c.data.sft_tasks) or not c.data.sft_rates,
    'config.data.sft_rates is set and config.data.sft_tasks is empty: name the tasks',
  )
  if c.hosted.model:
    return _check_hosted(c)
  require(
    not c.judge.model,
    'config.judge.model is set and config.hosted.model is not: the judge reads its responses',
  )
  require(
    c.data.corrected == 0 or c.data.vocab in VOCABS,
    f'config.data.corrected is {c.data.corrected} and config.data.vocab {c.data.vocab!r}: '
    f'conversations are taught in the vocabularies {", ".join(VOCABS)}',
  )
  _check_models(c)
  if c.rl.updates:
    _check_starts_of_rl(c)
  _check_budgets(c)
  test_time.check(c)
  require(
    c.sample.block_rows <= c.sample.block_samples,
    f'config.sample.block_rows is {c.sample.block_rows}: it must be at most '
    f'config.sample.block_samples ({c.sample.block_samples})',
  )
  for key, longest in response_lengths(c):
    require(
      longest <= c.data.row_tokens,
      f'config.{key} is {longest}: it must be at most config.data.row_tokens '
      f'({c.data.row_tokens}), beyond which no position was trained',
    )
  reinforcement.check(c)
  _check_divides(c)
  rounds.check(c)
  self_training.check(c)
