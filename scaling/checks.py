"""What makes an experiment's config valid, and what its fields that are text say.

`validate` refuses a study that cannot run, in one line that names the key: first each field by
itself (its type, its range), then those that depend on each other. `call`, `rl_runs` and
`algorithm` read the fields that hold calls. `scaling.config` declares the fields.
"""

import ast
import difflib
import itertools
import math
import urllib.parse

from ml_collections import ConfigDict

from scaling import config, losses
from scaling.data.attempts import CRITIQUES
from scaling.data.batches import CONTAMINATION, LONG_EXAMPLES, LOSS_ON
from scaling.data.problem_files import of_file
from scaling.data.vocab import VOCABS
from scaling.environments.checker import ENVIRONMENTS
from scaling.errors import BadInput
from scaling.model.presets import PRESETS
from scaling.model.transformer import REMAT


def near(name: str, known) -> str:
  """'nearest: …' for an error message about an unknown name."""
  close = difflib.get_close_matches(str(name), [str(k) for k in known], n=2, cutoff=0.3)
  return 'nearest: ' + ', '.join(close) if close else 'known: ' + ', '.join(map(str, known))


PROVIDERS = ('anthropic', 'openai')  # see scaling/hosted/client.py
JUDGING = ('score', 'pairs')  # see scaling/rewards/judge.py
OBJECTIVES = ('pairs', 'outcome', 'process')  # see scaling/stages/preference.py
ATTENTION = ('auto', 'plain', 'cudnn', 'splash')  # see scaling/model/attention.py

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
    'sample.block_samples mesh.data mesh.fsdp mesh.tensor mesh.sequence mechanics.microbatches '
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


def _require(ok: bool, message: str) -> None:
  if not ok:
    raise BadInput(message)


def _is(value, kind: type) -> bool:
  """Whether a value is of a field's type; a whole number is a number, and a bool is neither."""
  if kind is float:
    return _is(value, int) or (isinstance(value, float) and math.isfinite(value))
  return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _fields(c: ConfigDict) -> dict:
  """Every field by its key, sections and what is in them."""
  flat = dict(c.items())
  for name, section in c.items():
    if isinstance(section, ConfigDict):
      flat |= {f'{name}.{key}': value for key, value in section.items()}
  return flat


def _check_fields(c: ConfigDict) -> None:
  """BadInput for a field that is wrong whatever the others are: its type, its range."""
  fields = _fields(c)
  for key, usual in _fields(config.default()).items():  # a section before the fields in it
    value, kind = fields[key], type(usual)
    if usual is None:  # a placeholder, which itself refuses what is not of its type
      continue
    if key == 'data.sft_problems' and value is None:
      _require(
        of_file(fields['data.task']),
        f'config.{key} is None: say how many; None (all that are left) is for jsonl(...) tasks and '
        'others read from a file',
      )
      continue
    _require(_is(value, kind), f'config.{key} is {value!r}: it must be {KINDS[kind]}')
    for element in value if kind is tuple else ():
      _require(
        _is(element, ELEMENTS[key]),
        f'config.{key} has {element!r}: each of its values must be {KINDS[ELEMENTS[key]]}',
      )
    if kind is tuple and key not in REPEATED:
      _require(len(set(value)) == len(value), f'config.{key} has a value twice: {value}')
  for words, holds, keys in RANGES:
    for key in keys.split():
      values = fields[key] if isinstance(fields[key], tuple) else (fields[key],)
      for value in values:
        if value is not None:
          _require(holds(value), f'config.{key} is {fields[key]}: it must be {words}')
  for key in ('seeds', 'model.sizes', 'sft.tokens'):
    _require(len(fields[key]) > 0, f'config.{key} is empty: give at least one value')


def _check_divides(c: ConfigDict) -> None:
  """BadInput for counts that are not whole multiples of the parts they are cut into."""
  whole = {
    'sample.block_samples': ('config.sample.n', c.sample.n),
    'sample.block_prompts': ('config.data.test_problems', c.data.test_problems),
  }
  fields = _fields(c)
  divisions = [(key, *what) for key, what in whole.items()]
  divisions += [('mechanics.microbatches', *batch) for batch in batches_of(c)]
  for key, name, count in divisions:
    _require(
      count % fields[key] == 0,
      f'config.{key} ({fields[key]}) does not divide {name} ({count}): each part must be whole',
    )


def batches_of(c: ConfigDict) -> list[tuple[str, int]]:
  """(what it is called, rows) of the batch of every kind of training that a study has."""
  batches = [('config.sft.rows', c.sft.rows)]
  if c.pretrain.tokens:
    batches.append(('config.pretrain.rows', c.pretrain.rows))
  for _, one in rl_runs(c):
    rows = one.rl.prompts * one.rl.group // one.rl.minibatches
    batches.append(('config.rl.prompts x group / minibatches', rows))
  if c.scorers.objectives:
    batches.append(('config.scorers.rows', c.scorers.rows))
  if c.dpo.feedback or any(text.startswith('spin') for text in c.synthetic.runs):
    batches.append(('config.dpo.rows', c.dpo.rows))
  return batches


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


def scorers_of(c: ConfigDict) -> list[str]:
  """The names, 'OBJECTIVE SIZE', of the reward models of a study."""
  return [f'{o} {size}' for o, size in itertools.product(c.scorers.objectives, c.scorers.sizes)]


def _check_scorers(c: ConfigDict) -> None:
  """BadInput for reward models, or a search, that cannot be."""
  for name in c.scorers.objectives:
    _require(
      name in OBJECTIVES,
      f'config.scorers.objectives: unknown {name!r}; {near(name, OBJECTIVES)}',
    )
  for key in ('scorers.sizes', 'scorers.policies', 'search.policies'):
    section, field = key.split('.')
    for size in c[section][field]:
      _require(size in c.model.sizes, f'config.{key}: {size!r} is not among config.model.sizes')
  if c.scorers.objectives:
    _require(
      bool(c.scorers.sizes) and bool(c.scorers.policies),
      'config.scorers.objectives is set: say which reward models, in config.scorers.sizes, and of '
      'whose samples, in config.scorers.policies',
    )
    _require(
      bool(c.scorers.pairs) or c.data.reward_problems >= 10,
      f'config.data.reward_problems is {c.data.reward_problems}: reward models learn from problems '
      'of their own, set at least 10',
    )
    _require(
      c.data.reward_problems % c.sample.block_prompts == 0,
      f'config.sample.block_prompts ({c.sample.block_prompts}) does not divide '
      f'config.data.reward_problems ({c.data.reward_problems}): each part must be whole',
    )
  _require(
    not c.scorers.pairs or tuple(c.scorers.objectives) == ('pairs',),
    "config.scorers.pairs is a file for objective 'pairs', and config.scorers.objectives is "
    f"{c.scorers.objectives}: set it to ('pairs',)",
  )
  scorers = scorers_of(c)
  _require(
    not c.search.scorer or c.search.scorer in scorers,
    f'config.search.scorer: {c.search.scorer!r} is not among those of config.scorers '
    f'({", ".join(scorers) or "there are none"})',
  )
  for text in c.search.strategies:
    call(text)
  if c.search.strategies:
    _require(
      bool(c.search.policies) and bool(c.search.budgets),
      'config.search.strategies is set: say which sizes search, in config.search.policies, and '
      'with which k, in config.search.budgets',
    )
    if c.search.scorer:
      for size in c.search.policies:
        _require(
          size in c.scorers.policies,
          f'config.search.policies: {size!r} is not among config.scorers.policies, so there is no '
          'scorer of its samples',
        )


def _check_hosted(c: ConfigDict) -> None:
  """BadInput for a study of a hosted model that cannot run."""
  _require(
    c.data.style == 'full',
    f"config.data.style is {c.data.style!r}: a hosted model reads the task's own words; set 'full'",
  )
  for section in ('hosted', 'judge'):
    part = c[section]
    _require(
      part.provider in PROVIDERS,
      f'config.{section}.provider is {part.provider!r}: one of {", ".join(map(repr, PROVIDERS))}',
    )
    url = urllib.parse.urlsplit(part.base_url)
    _require(
      not part.base_url or (url.scheme in ('http', 'https') and bool(url.hostname)),
      f'config.{section}.base_url is {part.base_url!r}: it must be like http://localhost:8000/v1',
    )
    _require(  # what is in a config is written down
      '@' not in url.netloc and not url.query and not url.fragment,
      f'config.{section}.base_url has a user, a password or a query in it, and is written into the '
      'workdir: give the address alone, and the key in the environment',
    )
  _require(
    c.judge.method in JUDGING,
    f'config.judge.method is {c.judge.method!r}: one of {", ".join(map(repr, JUDGING))}',
  )
  _require(
    not c.judge.model or c.judge.method != 'pairs' or c.hosted.n >= 2,
    "config.judge.method is 'pairs' and config.hosted.n is 1: there is nothing to compare",
  )
  _require(
    c.hosted.cap_money == 0 or c.hosted.input_price + c.hosted.output_price > 0,
    'config.hosted.cap_money is set and no price is: set config.hosted.input_price, output_price',
  )
  _require(
    c.hosted.cap_money == 0 or not c.judge.model or c.judge.input_price + c.judge.output_price > 0,
    'config.hosted.cap_money is set and the judge has no price: set config.judge.input_price and '
    'output_price',
  )


def algorithm(c: ConfigDict) -> losses.Algorithm:
  """The algorithm of config.rl, with the fields that are set in it. BadInput for an unknown one."""
  _require(
    c.rl.algorithm in losses.ALGORITHMS,
    f'config.rl.algorithm: unknown {c.rl.algorithm!r}; {near(c.rl.algorithm, losses.ALGORITHMS)}',
  )
  named = losses.ALGORITHMS[c.rl.algorithm]
  given = {name: c.rl[name] for name in named._fields if c.rl[name] is not None}
  return named._replace(**given)


OF_STUDY = ('updates', 'sizes', 'sft_tokens', 'runs')  # fields of config.rl that are not of a run
OF_TURNS = ('turns', 'environment')  # … that the recipe of one without turns does not have


def with_fields(c: ConfigDict, section: str, text: str, options: dict, of_study) -> ConfigDict:
  """The config of one of config.SECTION.runs: its options are fields of that section.

  text: the run, for messages; of_study: the fields that no run has for itself. BadInput for an
  option that is no other field of it, of another type or out of its range.
  """
  one = c.copy_and_resolve_references()
  for key, value in options.items():
    _require(
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
    _check_fields(one)
  return one


def rl_runs(c: ConfigDict) -> list[tuple[str, ConfigDict]]:
  """(what it is called, the config with its config.rl) of each of the RL runs of a study.

  BadInput for an option that is no field of config.rl, or of another type.
  """
  if not c.rl.updates:
    _require(not c.rl.runs, 'config.rl.runs is set: say for how long, in config.rl.updates')
    return []
  found = []
  for text in c.rl.runs or (c.rl.algorithm,):
    name, options = call(text, 'rl.runs', "dapo or grpo(group=4, reward='outcome 75k')")
    one = with_fields(c, 'rl', text, options | {'algorithm': name}, OF_STUDY)
    found.append((text, one))
  return found


def _check_rl(c: ConfigDict) -> None:
  """BadInput for RL that cannot run."""
  _require(
    bool(c.rl.sizes) and bool(c.rl.sft_tokens),
    'config.rl.updates is set: say where RL starts, in config.rl.sizes and config.rl.sft_tokens',
  )
  how = algorithm(c)
  _require(
    c.rl.prompts % c.rl.minibatches == 0,
    f'config.rl.minibatches ({c.rl.minibatches}) does not divide config.rl.prompts '
    f'({c.rl.prompts}): each part must be whole',
  )
  for key, value, known in (
    ('loss', how.loss, losses.POLICY),
    ('advantage', how.advantage, [*losses.ADVANTAGES, 'gae']),
    ('average', how.average, losses.AVERAGES),
    ('zero_variance', how.zero_variance, ['keep', 'drop', 'resample']),
    ('curriculum', c.rl.curriculum, ['', 'pass_rate']),
    ('kl', c.rl.kl, ['k1', 'k2', 'k3']),
    ('kl_in', c.rl.kl_in, ['loss', 'reward']),
  ):
    _require(value in known, f'config.rl.{key} is {value!r}: one of {", ".join(map(repr, known))}')
  _require(
    c.rl.kl_coef == 0 or c.rl.kl_in == 'reward' or c.rl.kl != 'k1',
    "config.rl.kl is 'k1' as a term of the loss, where its gradient is 0 in expectation: take k2 "
    "or k3, or config.rl.kl_in='reward'",
  )
  _require(
    c.rl.kl_target == 0 or c.rl.kl_coef > 0,
    'config.rl.kl_target is set and config.rl.kl_coef, which it starts from, is 0: set it',
  )
  _require(
    c.rl.group >= 2 or how.advantage in ('gae', 'batch_mean'),
    f'config.rl.group is {c.rl.group}: a group baseline needs 2 or more',
  )
  _require(
    how.overlong_cache < c.rl.response_tokens,
    f'config.rl.overlong_cache is {how.overlong_cache}: it must be less than '
    f'config.rl.response_tokens ({c.rl.response_tokens})',
  )
  _require(c.rl.staleness <= 8, f'config.rl.staleness is {c.rl.staleness}: at most 8 updates ahead')
  prompts = c.rl.environments or c.data.rl_problems
  _require(
    prompts <= c.data.rl_problems,
    f'config.rl.environments is {c.rl.environments}: at most config.data.rl_problems '
    f'({c.data.rl_problems})',
  )
  _require(
    prompts >= c.rl.prompts,
    f'config.{"rl.environments" if c.rl.environments else "data.rl_problems"} is {prompts}: an '
    f'update draws config.rl.prompts ({c.rl.prompts}) of them, so give at least that many',
  )
  _check_turns(c)
  judges = [f'judge {size}' for size in c.model.sizes]
  known = ['verifier', 'none', *judges, *scorers_of(c)]
  _require(
    c.rl.reward in known, f'config.rl.reward: unknown {c.rl.reward!r}; {near(c.rl.reward, known)}'
  )
  if c.rl.reward in scorers_of(c):
    for size in c.rl.sizes:
      _require(
        size in c.scorers.policies,
        f'config.rl.reward is {c.rl.reward!r} and config.rl.sizes has {size!r}, which is not among '
        'config.scorers.policies: there is no reward model of its samples',
      )
  _require(
    c.rl.reward == 'verifier' or c.rl.false_positive == c.rl.false_negative == 0,
    f'config.rl.false_positive and false_negative are of the verifier, and config.rl.reward is '
    f'{c.rl.reward!r}',
  )
  teachers = ['', *c.model.sizes, *(f'self {what}' for what in CRITIQUES)]
  _require(
    c.rl.teacher in teachers,
    f'config.rl.teacher: unknown {c.rl.teacher!r}; {near(c.rl.teacher, teachers)}',
  )
  _require(
    c.rl.reward != 'none' or bool(c.rl.teacher),
    "config.rl.reward is 'none' and there is no config.rl.teacher: there is nothing to learn from",
  )


def _check_turns(c: ConfigDict) -> None:
  """BadInput for episodes of several turns that cannot be."""
  _require(
    c.rl.environment in ENVIRONMENTS,
    f'config.rl.environment: unknown {c.rl.environment!r}; {near(c.rl.environment, ENVIRONMENTS)}',
  )
  if c.rl.turns == 1:
    return
  _require(
    c.data.style != 'chat',
    f"config.rl.turns is {c.rl.turns} and config.data.style 'chat': episodes are not written in a "
    "chat template; take 'full' or 'short'",
  )
  _require(
    c.rl.reward == 'verifier' and c.rl.false_positive == c.rl.false_negative == 0,
    f'config.rl.turns is {c.rl.turns}: the environment rewards an episode, so leave '
    "config.rl.reward 'verifier', without mistakes",
  )
  _require(
    not c.rl.teacher.startswith('self '),
    f'config.rl.turns is {c.rl.turns} and config.rl.teacher {c.rl.teacher!r}: its critique is of '
    'one response',
  )


def validate(c: ConfigDict) -> None:
  """BadInput, one line that names the key, for a study that cannot run as it is written."""
  _check_fields(c)
  _require(
    bool(c.name) and c.name.replace('_', '').replace('-', '').isalnum(),
    f'config.name is {c.name!r}: use letters, digits, - and _ (it names a file)',
  )
  for key, value, known in (
    ('data.long_examples', c.data.long_examples, LONG_EXAMPLES),
    ('data.contamination', c.data.contamination, CONTAMINATION),
    ('sft.loss_on', c.sft.loss_on, LOSS_ON),
  ):
    _require(value in known, f'config.{key} is {value!r}: {" or ".join(map(repr, known))}')
  _require(
    bool(c.pretrain.tasks) or not (c.pretrain.rates or c.pretrain.temperature),
    'config.pretrain.rates or temperature is set and config.pretrain.tasks is empty: name them',
  )
  _require(
    bool(c.data.sft_tasks) or not c.data.sft_rates,
    'config.data.sft_rates is set and config.data.sft_tasks is empty: name the tasks',
  )
  if c.hosted.model:
    return _check_hosted(c)
  _require(
    not c.judge.model,
    'config.judge.model is set and config.hosted.model is not: the judge reads its responses',
  )
  _require(
    c.data.corrected == 0 or c.data.vocab in VOCABS,
    f'config.data.corrected is {c.data.corrected} and config.data.vocab {c.data.vocab!r}: '
    f'conversations are taught in the vocabularies {", ".join(VOCABS)}',
  )
  for key, known in (('attention', ATTENTION), ('remat', tuple(REMAT))):
    value = c.mechanics[key]
    _require(
      value in known, f'config.mechanics.{key} is {value!r}: one of {", ".join(map(repr, known))}'
    )
  _require(
    c.model.mup_base == 0 or c.optimizer.width_exponent == 0,
    'config.model.mup_base scales rates by itself: set config.optimizer.width_exponent=0 with it',
  )
  if c.init_from:
    _require(
      len(c.model.sizes) == 1 or '{size}' in c.init_from,
      f'config.init_from is {c.init_from!r}, one folder for {len(c.model.sizes)} sizes: put '
      '{size} where their names differ, or set config.model.sizes to one name',
    )
    _require(
      len(c.init_tokens) in (0, len(c.model.sizes)),
      f'config.init_tokens has {len(c.init_tokens)} numbers for {len(c.model.sizes)} sizes: give '
      'one for each, or none',
    )
  else:
    _require(not c.init_tokens, 'config.init_tokens is set and config.init_from is not')
  for size in () if c.init_from else c.model.sizes:
    _require(size in PRESETS, f'config.model.sizes: unknown preset {size!r}; {near(size, PRESETS)}')
  for size in c.rl.sizes:
    _require(size in c.model.sizes, f'config.rl.sizes: {size!r} is not among config.model.sizes')
  for tokens in c.rl.sft_tokens:
    _require(
      tokens in c.sft.tokens, f'config.rl.sft_tokens: {tokens:,.0f} is not among config.sft.tokens'
    )

  _require(
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
      _require(
        more >= per_step,
        f'config.{key} has {more:,.0f}, less than one batch of {stage}.rows x '
        f'data.row_tokens = {per_step:,}',
      )
      steps = round(more / per_step)
      _require(
        round(less / per_step) < steps,
        f'config.{key} has {less:,.0f} and {more:,.0f}, both {steps} steps of '
        f'{per_step:,} tokens: set them further apart',
      )

  _check_scorers(c)
  _require(
    c.sample.block_rows <= c.sample.block_samples,
    f'config.sample.block_rows is {c.sample.block_rows}: it must be at most '
    f'config.sample.block_samples ({c.sample.block_samples})',
  )
  sections = ['sample'] + ['rl'] * bool(c.rl.updates) + ['search'] * bool(c.search.strategies)
  for section in sections:
    longest = c[section].response_tokens
    _require(
      longest <= c.data.row_tokens,
      f'config.{section}.response_tokens is {longest}: it must be at most config.data.row_tokens '
      f'({c.data.row_tokens}), beyond which no position was trained',
    )
  for _, one in rl_runs(c):
    _check_rl(one)
  _check_divides(c)
