"""The fields of a config, each by itself: its type, its range, and what those that hold calls say.

`scaling.config` declares them; `scaling.checks` refuses what they make together.
"""

import ast
import difflib
import math

from ml_collections import ConfigDict

from scaling import config
from scaling.data.problem_files import of_file
from scaling.errors import BadInput, require

KINDS = {  # how a message names a type
  str: 'text',
  bool: 'True or False',
  int: 'a whole number',
  float: 'a finite number',
  tuple: 'a tuple',
  ConfigDict: 'a section',
}

ELEMENTS = {  # of the fields that are tuples; values are distinct, but of those in REPEATED
  'seeds': int,
  'init_tokens': float,
  'model.sizes': str,
  'data.sft_tasks': str,
  'data.sft_rates': float,
  'pretrain.tasks': str,
  'pretrain.rates': float,
  'pretrain.tokens': float,
  'sft.tokens': float,
  'sft.unique_tokens': float,
  'rl.updates': int,
  'rl.runs': str,
  'rl.sizes': str,
  'rl.sft_tokens': float,
  'sample.stop': str,
  'scorers.objectives': str,
  'scorers.sizes': str,
  'scorers.policies': str,
  'dpo.feedback': str,
  'dpo.sizes': str,
  'synthetic.runs': str,
  'synthetic.sizes': str,
  'search.strategies': str,
  'search.policies': str,
  'search.budgets': int,
}

REPEATED = ('pretrain.tasks', 'pretrain.rates', 'data.sft_rates', 'init_tokens')

RANGES = (  # what holds for a number, and the fields (or elements of fields) that it holds for
  (
    'at least 1',
    lambda x: x >= 1,
    'data.row_tokens data.ngram data.sft_problems data.validation_problems data.test_problems '
    'pretrain.examples pretrain.rows sft.rows rl.updates rl.prompts rl.group '
    'rl.minibatches rl.epochs rl.turns rl.response_tokens sample.n sample.response_tokens '
    'sample.block_prompts '
    'sample.block_samples mesh.fsdp mesh.tensor mesh.sequence mechanics.microbatches '
    'model.vocab_multiple scorers.n scorers.per_problem scorers.rollouts '
    'dpo.rounds dpo.problems dpo.pairs_per_problem dpo.rows dpo.judge_tokens '
    'synthetic.problems synthetic.n synthetic.draws synthetic.judged synthetic.tokens '
    'synthetic.rounds '
    'scorers.rows search.budgets search.runs search.response_tokens',
  ),
  (
    'at least 0',
    lambda x: x >= 0,
    'data.sft_rates pretrain.rates pretrain.temperature '
    'mesh.data mechanics.unroll '
    'data.seed data.rl_problems optimizer.weight_decay pretrain.warmup_steps '
    'sft.warmup_steps rl.warmup_steps rl.kl_coef rl.kl_target rl.entropy_coef rl.importance_cap '
    'rl.staleness rl.overlong_cache rl.environments rl.value_clip rl.teacher_coef optimizer.z_loss '
    'lora.rank mechanics.loss_chunk model.mup_base '
    'data.reward_problems sample.top_k sample.prompt_chunk sample.block_rows scorers.warmup_steps '
    'dpo.warmup_steps synthetic.most synthetic.rationalise',
  ),
  (
    'more than 0',
    lambda x: x > 0,
    'model.rope_theta optimizer.clip_norm pretrain.learning_rate sft.learning_rate '
    'rl.learning_rate rl.critic_learning_rate rl.temperature rl.clip_high sample.temperature '
    'checkpoint_seconds '
    'lora.alpha init_tokens scorers.epochs scorers.learning_rate search.temperature '
    'dpo.epochs dpo.learning_rate dpo.beta synthetic.temperature synthetic.learning_rate',
  ),
  (
    'at least 1',
    lambda x: x >= 1,
    'hosted.n hosted.max_tokens hosted.concurrency judge.max_tokens',
  ),
  (
    'at least 0',
    lambda x: x >= 0,
    'hosted.temperature hosted.input_price hosted.output_price hosted.cached_price hosted.retries '
    'hosted.cap_tokens hosted.cap_money judge.temperature judge.input_price judge.output_price '
    'judge.cached_price',
  ),
  ('more than 0', lambda x: x > 0, 'hosted.timeout'),
  ('in [0, 1)', lambda x: 0 <= x < 1, 'optimizer.b1 optimizer.b2 sample.min_p'),
  (
    'in [0, 1]',
    lambda x: 0 <= x <= 1,
    'data.near_duplicates '
    'data.attempts data.reversed data.corrected '
    'rl.false_positive rl.false_negative rl.least_accuracy '
    'rl.drop_passed rl.gamma rl.gae_lambda synthetic.mix synthetic.agreement synthetic.pass_low '
    'synthetic.pass_high',
  ),
  ('at least 2', lambda x: x >= 2, 'dpo.n'),
  ('in (0, 1)', lambda x: 0 < x < 1, 'scorers.held_out dpo.held_out'),
  (
    'in (0, 1]',
    lambda x: 0 < x <= 1,
    'pretrain.decay sft.decay rl.clip_low sample.top_p',
  ),
  ('in [0, 2**31)', lambda x: 0 <= x < 2**31, 'seeds'),
)


def near(name: str, known) -> str:
  """'nearest: …' for an error message about an unknown name."""
  close = difflib.get_close_matches(str(name), [str(k) for k in known], n=2, cutoff=0.3)
  return 'nearest: ' + ', '.join(close) if close else 'known: ' + ', '.join(map(str, known))


def _is(value, kind: type) -> bool:
  """Whether a value is of a field's type; a whole number is a number, and a bool is neither."""
  if kind is float:
    return _is(value, int) or (isinstance(value, float) and math.isfinite(value))
  return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def flat(c: ConfigDict) -> dict:
  """Every field by its key: sections, and what is in them as 'SECTION.FIELD'."""
  fields = dict(c.items())
  for name, section in c.items():
    if isinstance(section, ConfigDict):
      fields |= {f'{name}.{key}': value for key, value in section.items()}
  return fields


def check(c: ConfigDict) -> None:
  """BadInput for a field that is wrong whatever the others are: its type, its range."""
  fields = flat(c)
  for key, usual in flat(config.default()).items():  # a section before the fields in it
    value, kind = fields[key], type(usual)
    if usual is None:  # a placeholder, which itself refuses what is not of its type
      continue
    if key == 'data.sft_problems' and value is None:
      require(
        of_file(fields['data.task']),
        f'config.{key} is None: say how many; None (all that are left) is for jsonl(...) tasks and '
        'others read from a file',
      )
      continue
    require(_is(value, kind), f'config.{key} is {value!r}: it must be {KINDS[kind]}')
    for element in value if kind is tuple else ():
      require(
        _is(element, ELEMENTS[key]),
        f'config.{key} has {element!r}: each of its values must be {KINDS[ELEMENTS[key]]}',
      )
    if kind is tuple and key not in REPEATED:
      require(len(set(value)) == len(value), f'config.{key} has a value twice: {value}')
  for words, holds, keys in RANGES:
    for key in keys.split():
      values = fields[key] if isinstance(fields[key], tuple) else (fields[key],)
      for value in values:
        if value is not None:
          require(holds(value), f'config.{key} is {fields[key]}: it must be {words}')
  for key in ('seeds', 'model.sizes', 'sft.tokens'):
    require(len(fields[key]) > 0, f'config.{key} is empty: give at least one value')


def call(text: str, key: str = 'search.strategies', like: str = 'beam(width=4) or dvts'):
  """(name, options: literals) of an element of config.search.strategies, or of runs."""
  try:
    node = ast.parse(text.strip(), mode='eval').body
    if isinstance(node, ast.Name):
      return node.id, {}
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)) or node.args:
      raise ValueError
    return node.func.id, {item.arg: ast.literal_eval(item.value) for item in node.keywords}
  except (SyntaxError, ValueError):
    raise BadInput(f'config.{key} has {text!r}: write it like {like}') from None


def with_fields(c: ConfigDict, section: str, text: str, options: dict, of_study) -> ConfigDict:
  """The config of one of config.SECTION.runs: its options are fields of that section.

  text: the run, for messages; of_study: the fields that no run has for itself. BadInput for an
  option that is no other field of it, of another type or out of its range.
  """
  one = c.copy_and_resolve_references()
  for key, value in options.items():
    require(
      key in c[section] and key not in of_study,
      f'config.{section}.runs has {text!r}: config.{section} has no field {key!r} for a run; '
      f'{near(key, [field for field in c[section] if field not in of_study])}',
    )
    try:
      one[section][key] = value
    except TypeError:
      usual = c[section][key]
      kind = KINDS[type(usual)] if usual is not None else 'of another type'
      raise BadInput(
        f'config.{section}.runs has {text!r}: {key} is {value!r}, and it must be {kind}'
      ) from None
  if options:
    check(one)
  return one
