"""Every config that cannot run is refused in one line that names the key."""

import re

import pytest

from scaling import config
from scaling.errors import BadInput


def _set(c, key, value):
  *sections, name = key.split('.')
  for section in sections:
    c = c[section]
  c[name] = value


@pytest.mark.parametrize(
  'key, value, says',
  [
    ('seeds', (), 'config.seeds is empty'),
    ('seeds', (1, 1), 'twice'),
    ('name', 'a/b', 'config.name'),
    ('model.sizes', ('26k',), 'nearest: 25k'),
    ('sft.tokens', (10,), 'less than one batch'),
    ('sft.microbatches', 7, 'does not divide config.sft.rows'),
    ('sft.decay', 0.0, 'config.sft.decay'),
    ('pretrain.tokens', 10_000, 'config.pretrain.tokens and config.pretrain.tasks'),
    ('rl.updates', (2,), 'config.rl.sizes'),
    ('rl.sizes', ('800k',), 'not among config.model.sizes'),
    ('rl.sft_tokens', (5,), 'not among config.sft.tokens'),
    ('sample.n', 100, 'config.sample.block_samples'),
    ('sample.temperature', 0.0, 'config.sample.temperature'),
    ('data.test_problems', 63, 'config.sample.block_prompts'),
    ('data.long_examples', 'cut', "config.data.long_examples is 'cut': 'error' or 'drop'"),
  ],
)
def test_refused(key, value, says):
  c = config.default()
  config.validate(c)
  _set(c, key, value)
  with pytest.raises(BadInput, match=says) as error:
    config.validate(c)
  assert '\n' not in str(error.value)


def test_group_of_one_and_minibatches_that_do_not_divide():
  c = config.default()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (2,), ('25k',), (65_536,)
  config.validate(c)
  c.rl.minibatches = 7
  with pytest.raises(BadInput, match=re.escape('config.rl.minibatches')):
    config.validate(c)
  c.rl.group = 1
  with pytest.raises(BadInput, match=re.escape('config.rl.group')):
    config.validate(c)


def test_unknown_fields_and_wrong_types_are_refused_by_the_config_itself():
  c = config.default()
  with pytest.raises(AttributeError, match='tokens'):
    c.sft.token = 3
  with pytest.raises(TypeError, match='rows'):
    c.sft.rows = 'many'


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
