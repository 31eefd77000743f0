"""What --plan prints of a study: its tree, where the compute goes, and how long here."""

import re

import pytest

from scaling import plan, study
from tests import tiny


def _plan(**fields) -> str:
  c = tiny.get_config()
  c.update_from_flattened_dict({key.replace('__', '.'): value for key, value in fields.items()})
  return plan.describe(c, study.expand(c))


def test_each_stage_is_printed_under_its_parent():
  sizes = ('25k', '75k')
  text = _plan(model__sizes=sizes)
  c = tiny.get_config()
  c.model.sizes = sizes
  parent = {s.id: s.parent for s in study.expand(c)}
  above, found = [], {}
  for line in text.splitlines():
    if shown := re.fullmatch(r'( *)\S.*  \[(\S+)\]', line):
      depth = len(shown[1]) // 2
      found[shown[2]] = above[depth - 1] if depth else None
      above[depth:] = [shown[2]]
  assert found == parent


def test_the_shares_of_the_parts_are_said_and_add_up():
  c = tiny.get_config()
  shares = plan.shares(study.expand(c))
  assert set(shares) == {'pretraining', 'SFT', 'RL', 'banks'}
  assert sum(shares.values()) == pytest.approx(1)
  assert f'pretraining {shares["pretraining"]:.0%}, SFT {shares["SFT"]:.0%}, RL ' in _plan()


@pytest.mark.parametrize(
  'seconds, words',
  [(7, '7 s'), (119, '119 s'), (300, '5.0 min'), (1260, '21 min'), (9000, '2.5 h'),
   (285583063, '3,305 days')],
)  # fmt: skip
def test_a_duration_has_a_unit_that_fits(seconds, words):
  assert plan.duration(seconds) == words


def test_a_mesh_that_is_not_here_is_said_in_place_of_a_time():
  text = _plan(mesh__data=16)
  assert 'config.mesh needs 16 devices, here are 8' in text and '--compile_for' in text
  assert ' here (matmul peak' not in text and not re.search(r', \d+ s$', text, re.M)
  assert ' here (matmul peak' in _plan()


def test_devices_that_stay_idle_are_said():
  said = '\non 2 of 8 devices: for 8 make config.sample.block_prompts (2) and'
  assert said in _plan(mesh__data=0)
  assert ' of 8 devices' not in _plan()


def test_a_public_model_without_weights_is_said_in_the_first_line():
  first = _plan(model__sizes=('25k', 'qwen2.5-0.5b')).splitlines()[0]
  assert first.endswith('; qwen2.5-0.5b from random parameters (config.init_from is empty)')
  assert 'random' not in _plan()
