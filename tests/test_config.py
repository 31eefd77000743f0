"""Every config that cannot run is refused in one line that names the key."""

import pytest

from scaling import checks, config, fields, sharding, study
from scaling.errors import BadInput


def _set(c, key, value):
  *sections, name = key.split('.')
  for section in sections:
    c = c[section]
  c[name] = value


def _with_rl():
  c = config.default()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (2,), ('25k',), (65_536,)
  return c


CASES = [
  ('seeds', (), 'config.seeds is empty'),
  ('seeds', (1, 1), 'config.seeds has a value twice'),
  ('seeds', (0.5,), 'config.seeds has 0.5: .* a whole number'),
  ('seeds', (True,), 'config.seeds has True: .* a whole number'),
  ('seeds', (-1,), r'config.seeds is \(-1,\): it must be in \[0, 2\*\*31\)'),
  ('seeds', (2**31,), 'config.seeds is .*: it must be in'),
  ('seeds', None, 'config.seeds is None: it must be a tuple'),
  ('name', 'a/b', 'config.name'),
  ('name', None, 'config.name is None: it must be text'),
  ('rl', None, 'config.rl is None: it must be a section'),
  ('data.row_tokens', 0, 'config.data.row_tokens is 0: it must be at least 1'),
  ('data.seed', -1, 'config.data.seed'),
  ('data.sft_problems', 0, 'config.data.sft_problems is 0: it must be at least 1'),
  ('data.sft_problems', None, r'config.data.sft_problems is None: say how many; .*jsonl\(...\)'),
  ('data.rl_problems', -1, 'config.data.rl_problems is -1: it must be at least 0'),
  ('data.rl_problems', None, 'config.data.rl_problems is None: it must be a whole number'),
  ('data.validation_problems', 0, 'config.data.validation_problems'),
  ('data.test_problems', 0, 'config.data.test_problems is 0'),
  ('data.test_problems', 63, 'config.sample.block_prompts'),
  ('data.long_examples', 'cut', "config.data.long_examples is 'cut': 'error' or 'drop'"),
  ('model.sizes', ('26k',), 'config.model.sizes: unknown preset .*nearest: 25k'),
  ('model.sizes', (25,), 'config.model.sizes has 25: each of its values must be text'),
  ('model.sizes', (), 'config.model.sizes is empty'),
  ('model.rope_theta', 0.0, 'config.model.rope_theta'),
  ('optimizer.b1', 1.0, r'config.optimizer.b1 is 1.0: it must be in \[0, 1\)'),
  ('optimizer.b2', -0.1, 'config.optimizer.b2'),
  ('optimizer.weight_decay', -0.1, 'config.optimizer.weight_decay'),
  ('optimizer.clip_norm', 0.0, 'config.optimizer.clip_norm is 0.0: it must be more than 0'),
  ('optimizer.width_exponent', float('nan'), 'config.optimizer.width_exponent is nan: .*finite'),
  ('pretrain.tasks', (1,), 'config.pretrain.tasks has 1: each of its values must be text'),
  ('pretrain.examples', 0, 'config.pretrain.examples'),
  ('pretrain.tokens', ('1e5',), "config.pretrain.tokens has '1e5': .* a finite number"),
  ('pretrain.tokens', (1024, 1100), 'config.pretrain.tokens'),
  ('pretrain.tokens', (10_000,), 'config.pretrain.tokens and config.pretrain.tasks'),
  ('pretrain.rows', 0, 'config.pretrain.rows'),
  ('pretrain.learning_rate', -1e-3, 'config.pretrain.learning_rate'),
  ('pretrain.warmup_steps', -1, 'config.pretrain.warmup_steps'),
  ('pretrain.decay', 1.1, 'config.pretrain.decay'),
  ('sft.tokens', (10,), 'config.sft.tokens has 10, less than one batch .* = 1,024'),
  ('sft.tokens', ('1e5',), "config.sft.tokens has '1e5': .* a finite number"),
  ('sft.tokens', (float('inf'),), 'config.sft.tokens has inf'),
  ('sft.tokens', (65_536, 65_600), 'config.sft.tokens has 65,536 and 65,600, both 64 steps'),
  ('sft.tokens', (), 'config.sft.tokens is empty'),
  ('sft.unique_tokens', (1000,), 'config.sft.unique_tokens has 1,000, less than one batch'),
  ('sft.unique_tokens', (65_536, 65_600), 'config.sft.unique_tokens has 65,536 and 65,600'),
  ('sft.unique_tokens', ('all',), "config.sft.unique_tokens has 'all': .* a finite number"),
  ('sft.loss_on', 'prompts', "config.sft.loss_on is 'prompts': 'responses' or 'all'"),
  ('data.near_duplicates', 1.5, r'config.data.near_duplicates is 1.5: it must be in \[0, 1\]'),
  ('data.contamination', 'hide', "config.data.contamination is 'hide': 'error' or 'drop' or"),
  ('data.ngram', 0, 'config.data.ngram is 0: it must be at least 1'),
  ('data.sft_tasks', (3,), 'config.data.sft_tasks has 3'),
  ('data.sft_rates', (1.0,), 'config.data.sft_rates is set and config.data.sft_tasks is empty'),
  ('data.sft_rates', (-1.0,), 'config.data.sft_rates is'),
  ('pretrain.rates', (1.0,), 'config.pretrain.rates or temperature is set and'),
  ('pretrain.rates', (-1.0,), 'config.pretrain.rates is'),
  ('pretrain.temperature', -1.0, 'config.pretrain.temperature is -1.0'),
  ('sft.rows', 0, 'config.sft.rows'),
  ('sft.learning_rate', 0.0, 'config.sft.learning_rate is 0.0: it must be more than 0'),
  ('sft.learning_rate', None, 'config.sft.learning_rate is None: it must be a finite number'),
  ('sft.warmup_steps', -1, 'config.sft.warmup_steps'),
  ('rl.warmup_steps', -1, 'config.rl.warmup_steps'),
  ('sft.decay', 0.0, 'config.sft.decay'),
  ('mechanics.microbatches', 0, 'config.mechanics.microbatches'),
  ('mechanics.unroll', -1, 'config.mechanics.unroll is -1: it must be at least 0'),
  ('mechanics.microbatches', 7, 'does not divide config.sft.rows'),
  ('rl.updates', (2,), 'config.rl.sizes'),
  ('rl.updates', (0, 2), r'config.rl.updates is \(0, 2\): it must be at least 1'),
  ('rl.updates', (2, 2), 'config.rl.updates has a value twice'),
  ('rl.updates', (-3,), 'config.rl.updates is'),
  ('rl.updates', (2.0,), 'config.rl.updates has 2.0: each of its values must be a whole number'),
  ('rl.updates', ('a',), "config.rl.updates has 'a'"),
  ('rl.sizes', (25,), 'config.rl.sizes has 25'),
  ('rl.sizes', ('25k', '25k'), 'config.rl.sizes has a value twice'),
  ('rl.sft_tokens', ('65536',), "config.rl.sft_tokens has '65536': .* a finite number"),
  ('rl.prompts', 0, 'config.rl.prompts'),
  ('rl.group', 0, 'config.rl.group'),
  ('rl.minibatches', 0, 'config.rl.minibatches'),
  ('rl.learning_rate', 0.0, 'config.rl.learning_rate'),
  ('rl.temperature', 0.0, 'config.rl.temperature'),
  ('rl.response_tokens', 0, 'config.rl.response_tokens'),
  ('rl.clip_low', 1.5, r'config.rl.clip_low is 1.5: it must be in \(0, 1\]'),
  ('rl.clip_high', 0.0, 'config.rl.clip_high'),
  ('rl.kl_coef', -0.1, 'config.rl.kl_coef is -0.1: it must be at least 0'),
  ('rl.kl_target', -1.0, 'config.rl.kl_target is -1.0'),
  ('rl.entropy_coef', -0.1, 'config.rl.entropy_coef'),
  ('rl.importance_cap', -0.1, 'config.rl.importance_cap'),
  ('rl.staleness', -1, 'config.rl.staleness is -1'),
  ('rl.overlong_cache', -1, 'config.rl.overlong_cache'),
  ('rl.environments', -1, 'config.rl.environments'),
  ('rl.value_clip', -0.1, 'config.rl.value_clip'),
  ('rl.teacher_coef', -0.1, 'config.rl.teacher_coef'),
  ('rl.epochs', 0, 'config.rl.epochs is 0: it must be at least 1'),
  ('rl.critic_learning_rate', 0.0, 'config.rl.critic_learning_rate'),
  ('rl.false_positive', 1.5, r'config.rl.false_positive is 1.5: it must be in \[0, 1\]'),
  ('rl.false_negative', -0.1, 'config.rl.false_negative'),
  ('rl.least_accuracy', 1.5, 'config.rl.least_accuracy'),
  ('rl.drop_passed', 1.5, 'config.rl.drop_passed'),
  ('rl.gamma', 1.5, 'config.rl.gamma'),
  ('rl.gae_lambda', -0.1, 'config.rl.gae_lambda'),
  ('rl.runs', ('grpo',), 'config.rl.runs is set: say for how long, in config.rl.updates'),
  ('dpo.rounds', 0, 'config.dpo.rounds is 0'),
  ('dpo.problems', 0, 'config.dpo.problems'),
  ('dpo.n', 1, 'config.dpo.n is 1: it must be at least 2'),
  ('dpo.pairs_per_problem', 0, 'config.dpo.pairs_per_problem'),
  ('dpo.rows', 0, 'config.dpo.rows'),
  ('dpo.judge_tokens', 0, 'config.dpo.judge_tokens'),
  ('dpo.warmup_steps', -1, 'config.dpo.warmup_steps'),
  ('dpo.epochs', 0.0, 'config.dpo.epochs'),
  ('dpo.learning_rate', 0.0, 'config.dpo.learning_rate'),
  ('dpo.beta', 0.0, 'config.dpo.beta'),
  ('dpo.held_out', 1.0, r'config.dpo.held_out is 1.0: it must be in \(0, 1\)'),
  ('synthetic.problems', 0, 'config.synthetic.problems'),
  ('synthetic.n', 0, 'config.synthetic.n'),
  ('synthetic.tokens', 0, 'config.synthetic.tokens'),
  ('synthetic.rounds', 0, 'config.synthetic.rounds'),
  ('synthetic.draws', 0, 'config.synthetic.draws'),
  ('synthetic.judged', 0, 'config.synthetic.judged'),
  ('synthetic.agreement', 1.5, 'config.synthetic.agreement'),
  ('synthetic.pass_low', -0.5, 'config.synthetic.pass_low'),
  ('synthetic.pass_high', 1.5, 'config.synthetic.pass_high'),
  ('synthetic.most', -1, 'config.synthetic.most'),
  ('synthetic.rationalise', -1, 'config.synthetic.rationalise'),
  ('synthetic.temperature', 0.0, 'config.synthetic.temperature'),
  ('synthetic.learning_rate', 0.0, 'config.synthetic.learning_rate'),
  ('synthetic.mix', 1.5, 'config.synthetic.mix'),
  ('sample.n', 0, 'config.sample.n is 0'),
  ('sample.n', 100, 'config.sample.block_samples'),
  ('sample.temperature', 0.0, 'config.sample.temperature'),
  ('sample.response_tokens', 0, 'config.sample.response_tokens is 0'),
  ('sample.response_tokens', 65, r'config.sample.response_tokens is 65: .*row_tokens \(64\)'),
  ('sample.block_prompts', 0, 'config.sample.block_prompts'),
  ('sample.block_samples', 0, 'config.sample.block_samples'),
  ('mesh.data', -1, 'config.mesh.data is -1: it must be at least 0'),
  ('mesh.fsdp', -1, 'config.mesh.fsdp'),
  ('mesh.tensor', 0, 'config.mesh.tensor is 0'),
  ('mesh.tensor', None, 'config.mesh.tensor is None: it must be a whole number'),
  ('init_tokens', (1e9,), 'config.init_tokens is set and config.init_from is not'),
  ('init_tokens', ('1e9',), 'config.init_tokens has .1e9.: each of its values must be a finite'),
  ('init_tokens', (0.0,), r'config.init_tokens is \(0.0,\): it must be more than 0'),
  ('init_from', 'models/qwen', "'models/qwen', one folder for 2 sizes: put {size} where"),
  ('mesh.sequence', 0, 'config.mesh.sequence is 0'),
  ('mechanics.attention', 'flash', "config.mechanics.attention is 'flash': one of 'auto', 'plain'"),
  ('mechanics.remat', 'all', "config.mechanics.remat is 'all': one of 'none', 'dots', 'block'"),
  ('mechanics.loss_chunk', -1, 'config.mechanics.loss_chunk is -1'),
  ('model.vocab_multiple', 0, 'config.model.vocab_multiple is 0'),
  ('model.mup_base', -1, 'config.model.mup_base is -1'),
  ('model.mup_base', 64, 'set config.optimizer.width_exponent=0 with it'),
  ('lora.rank', -1, 'config.lora.rank is -1'),
  ('lora.alpha', 0.0, 'config.lora.alpha is 0.0'),
  ('optimizer.z_loss', -0.1, 'config.optimizer.z_loss'),
  ('checkpoint_seconds', 0.0, 'config.checkpoint_seconds'),
  ('data.attempts', 1.5, r'config.data.attempts is 1.5: it must be in \[0, 1\]'),
  ('data.reversed', -0.5, r'config.data.reversed is -0.5: it must be in \[0, 1\]'),
  ('data.corrected', 1.5, r'config.data.corrected is 1.5: it must be in \[0, 1\]'),
  ('rl.turns', 0, 'config.rl.turns is 0: it must be at least 1'),
  ('data.reward_problems', -1, 'config.data.reward_problems is -1'),
  ('sample.top_k', -1, 'config.sample.top_k is -1: it must be at least 0'),
  ('sample.top_p', 0.0, r'config.sample.top_p is 0.0: it must be in \(0, 1\]'),
  ('sample.top_p', 1.5, 'config.sample.top_p is 1.5'),
  ('sample.min_p', 1.0, r'config.sample.min_p is 1.0: it must be in \[0, 1\)'),
  ('sample.prompt_chunk', -1, 'config.sample.prompt_chunk is -1: it must be at least 0'),
  ('sample.block_rows', -1, 'config.sample.block_rows is -1'),
  ('sample.block_rows', 256, 'config.sample.block_rows is 256: it must be at most'),
  ('scorers.n', 0, 'config.scorers.n is 0'),
  ('scorers.per_problem', 0, 'config.scorers.per_problem'),
  ('scorers.rollouts', 0, 'config.scorers.rollouts'),
  ('scorers.rows', 0, 'config.scorers.rows'),
  ('scorers.epochs', 0.0, 'config.scorers.epochs'),
  ('scorers.learning_rate', 0.0, 'config.scorers.learning_rate'),
  ('scorers.warmup_steps', -1, 'config.scorers.warmup_steps'),
  ('scorers.held_out', 1.0, r'config.scorers.held_out is 1.0: it must be in \(0, 1\)'),
  ('scorers.objectives', ('outcom',), "config.scorers.objectives: unknown 'outcom'.*outcome"),
  ('scorers.objectives', ('outcome',), 'config.scorers.sizes, and of whose samples'),
  ('scorers.sizes', ('1m',), "config.scorers.sizes: '1m' is not among config.model.sizes"),
  ('search.budgets', (0,), r'config.search.budgets is \(0,\): it must be at least 1'),
  ('search.runs', 0, 'config.search.runs'),
  ('search.temperature', 0.0, 'config.search.temperature'),
  ('search.response_tokens', 0, 'config.search.response_tokens'),
  ('search.scorer', 'process 75k', 'not among those of config.scorers .there are none'),
  ('search.strategies', ('beam(4)',), r'has .beam\(4\).: write it like beam\(width=4\)'),
  ('search.strategies', ('revision',), 'say which sizes search, in config.search.policies'),
  ('hosted.n', 0, 'config.hosted.n is 0'),
  ('hosted.max_tokens', 0, 'config.hosted.max_tokens is 0'),
  ('hosted.concurrency', 0, 'config.hosted.concurrency is 0'),
  ('hosted.timeout', 0.0, 'config.hosted.timeout is 0.0'),
  ('hosted.temperature', -1.0, 'config.hosted.temperature is -1.0'),
  ('hosted.input_price', -1.0, 'config.hosted.input_price is -1.0'),
  ('hosted.output_price', -1.0, 'config.hosted.output_price is -1.0'),
  ('hosted.cached_price', -1.0, 'config.hosted.cached_price is -1.0'),
  ('hosted.retries', -1, 'config.hosted.retries is -1'),
  ('hosted.cap_tokens', -1, 'config.hosted.cap_tokens is -1'),
  ('hosted.cap_money', -1.0, 'config.hosted.cap_money is -1.0'),
  ('judge.max_tokens', 0, 'config.judge.max_tokens is 0'),
  ('judge.temperature', -1.0, 'config.judge.temperature is -1.0'),
  ('judge.input_price', -1.0, 'config.judge.input_price is -1.0'),
  ('judge.output_price', -1.0, 'config.judge.output_price is -1.0'),
  ('judge.cached_price', -1.0, 'config.judge.cached_price is -1.0'),
]

WITH_SCORERS = [
  ('data.reward_problems', 8, 'config.data.reward_problems is 8: reward models learn'),
  ('data.reward_problems', 30, r'config.sample.block_prompts \(4\) does not divide'),
  ('scorers.policies', ('150k',), "'25k' is not among config.scorers.policies"),
  ('search.scorer', 'process 150k', 'not among those of config.scorers .process 25k'),
  ('search.response_tokens', 65, 'config.search.response_tokens is 65: it must be at most'),
]

WITH_RL = [
  ('rl.sizes', (), 'config.rl.sizes and config.rl.sft_tokens'),
  ('rl.sizes', ('800k',), r"config.model.sizes \(25k.*\): .* say \('\w+',\), or .*updates=\(\)"),
  ('rl.sft_tokens', (5,), r'not among config.sft.tokens \(65,536\b.*\): .*, say \(\d+,\), or '),
  ('rl.reward', 'outcome 25k', "add 'outcome' to .*objectives, '25k' to config.scorers.sizes"),
  ('rl.reward', 'outcom 25k', "unknown 'outcom 25k'; nearest: "),
  ('rl.group', 1, 'config.rl.group is 1: a group baseline needs 2 or more'),
  ('rl.minibatches', 7, 'config.rl.minibatches'),
  ('rl.response_tokens', 65, 'config.rl.response_tokens is 65: it must be at most'),
  ('data.rl_problems', 15, r'config.data.rl_problems is 15: .*config.rl.prompts \(16\)'),
]


@pytest.mark.parametrize('key, value, says', CASES)
def test_refused(key, value, says):
  _refused(config.default(), key, value, says)


def _with_scorers():
  c = config.default()
  c.data.reward_problems = 40
  c.scorers.objectives, c.scorers.sizes, c.scorers.policies = ('process',), ('25k',), ('25k',)
  c.search.strategies, c.search.policies = ('beam(width=2)',), ('25k',)
  c.search.scorer = 'process 25k'
  return c


@pytest.mark.parametrize('key, value, says', WITH_SCORERS)
def test_refused_with_scorers(key, value, says):
  _refused(_with_scorers(), key, value, says)


def test_a_call_is_read_and_not_run():
  assert fields.call('dvts') == ('dvts', {})
  assert fields.call("beam(width=4, choose='best')") == ('beam', {'width': 4, 'choose': 'best'})
  for text in ('beam(width=open)', '__import__("os").system("ls")', 'beam(', '3'):
    with pytest.raises(BadInput, match='write it like'):
      fields.call(text)


@pytest.mark.parametrize('key, value, says', WITH_RL)
def test_refused_with_rl_alone(key, value, says):
  _refused(_with_rl(), key, value, says)
  if key != 'rl.sizes':
    c = config.default()
    _set(c, key, value)
    checks.validate(c)


def _refused(c, key, value, says):
  checks.validate(c)
  _set(c, key, value)
  with pytest.raises(BadInput, match=says) as error:
    checks.validate(c)
  assert '\n' not in str(error.value)


def test_every_number_has_a_range_and_every_tuple_its_elements():
  """So that a new field is not left unchecked; the width exponent alone may be any number."""
  known = fields.flat(config.default())
  ranged = [key for *_, keys in fields.RANGES for key in keys.split()]
  numbers = {k for k, v in known.items() if type(v) in (int, float)}
  assert len(set(ranged)) == len(ranged)
  others = {'seeds', 'rl.updates', 'init_tokens', 'search.budgets'}
  others |= {'data.sft_rates', 'pretrain.rates'}
  others |= {'model.rope_theta', 'hosted.cached_price', 'judge.cached_price'}  # may be None,
  others |= {f'synthetic.{name}' for name in ('most', 'rationalise', 'mix', 'rounds')}
  others |= {f'rl.{name}' for name in ('clip_low', 'clip_high', 'overlong_cache', 'drop_passed')}
  assert set(ranged) == numbers - {'optimizer.width_exponent'} | others
  assert set(fields.ELEMENTS) == {k for k, v in known.items() if isinstance(v, tuple)}


def test_every_range_is_tried():
  """A case in the table for each field that has a range, failing by that range."""
  for words, holds, keys in fields.RANGES:
    for key in keys.split():
      tried = [v for k, v, _ in CASES if k == key for v in (v if isinstance(v, tuple) else (v,))]
      assert any(type(v) in (int, float) and not holds(v) for v in tried), (key, words)


def test_all_that_is_left_of_a_file_is_a_count():
  c = config.default()
  c.data.task, c.data.sft_problems = "jsonl(path='train.jsonl')", None
  checks.validate(c)


def test_pretraining_of_less_than_a_batch_is_refused():
  c = config.default()
  c.pretrain.tasks, c.pretrain.tokens = (c.data.task,), (1024,)
  checks.validate(c)
  c.pretrain.tokens = (1023,)
  with pytest.raises(BadInput, match=r'config.pretrain.tokens has 1,023, less than one batch'):
    checks.validate(c)


def test_numbers_may_be_whole_or_not_where_tokens_are_counted():
  c = _with_rl()
  c.sft.tokens, c.rl.sft_tokens, c.sft.learning_rate = (65_536, 1.5e5), (1.5e5,), 1
  checks.validate(c)


def test_unknown_fields_and_wrong_types_are_refused_by_the_config_itself():
  c = config.default()
  with pytest.raises(AttributeError, match='tokens'):
    c.sft.token = 3
  with pytest.raises(TypeError, match='rows'):
    c.sft.rows = 'many'


@pytest.mark.parametrize(
  'devices, changes, data',
  [
    (1, {}, 1),
    (2, {}, 2),
    (10, {}, 4),  # prompts of a sampling block
    (10, {'sample.block_prompts': 64}, 8),  # 16 rows of SFT
    (10, {'sample.block_prompts': 64, 'mechanics.microbatches': 4}, 4),
    (8, {'sample.block_prompts': 64, 'mesh.tensor': 2}, 4),
    (8, {'sample.block_prompts': 64, 'mesh.fsdp': 4}, 2),
    (2, {'mesh.tensor': 4}, 1),  # more than there are: the mesh says so
    (8, {'mesh.data': 3}, 3),
    (8, {'hosted.model': 'm'}, 1),
  ],
)
def test_the_data_axis_takes_the_devices_that_rows_split_over(devices, changes, data):
  c = config.default()
  c.sft.rows = 16
  for key, value in changes.items():
    _set(c, key, value)
  assert checks.axes(c, devices)['data'] == data


def test_devices_that_stay_idle_are_said_with_what_would_take_them():
  c = config.default()
  c.sft.rows = 16
  assert checks.idle(c, 4) == ''
  said = 'on 4 of 8 devices: for 8 make config.sample.block_prompts (4) a multiple of 8'
  assert checks.idle(c, 8) == said
  c.sft.rows, c.mechanics.microbatches, c.mesh.fsdp = 8, 2, 2
  short = 'config.sample.block_prompts (4) and config.sft.rows / mechanics.microbatches (4)'
  assert checks.idle(c, 8) == f'on 4 of 8 devices: for 8 make {short} a multiple of 8'
  c.pretrain.tokens, c.pretrain.rows = (1e6,), 8
  assert checks.idle(c, 8).endswith('devices, as far as the rows of every batch split over them')
  c.mesh.data = 1  # as the config says
  assert checks.idle(c, 8) == ''


@pytest.mark.parametrize('minibatches, microbatches, data', [(1, 1, 8), (2, 1, 4), (2, 2, 2)])
def test_the_data_axis_splits_what_rl_learns_from(minibatches, microbatches, data):
  c = _with_rl()
  c.sft.rows, c.sample.block_prompts, c.rl.prompts, c.rl.group = 16, 64, 8, 8
  c.rl.minibatches, c.mechanics.microbatches = minibatches, microbatches
  assert checks.axes(c, 64)['data'] == data
  tree = study.expand(c)
  study.check_mesh(c, tree, sharding.make_mesh(**checks.axes(c, 8)))


def test_every_field_is_read():
  """A field that nothing outside the schema reads would be a lie to the user."""
  from pathlib import Path

  root = Path(__file__).parents[1]
  source = '\n'.join(
    p.read_text() for p in (root / 'scaling').rglob('*.py') if p.name != 'config.py'
  ) + '\n'.join(p.read_text() for p in (root / 'analysis').glob('*.py'))
  for name, section in config.default().items():
    fields = section.keys() if hasattr(section, 'keys') else [name]
    for field in fields:
      assert f'.{field}' in source or f"'{field}'" in source or f'{field}:' in source, (name, field)
