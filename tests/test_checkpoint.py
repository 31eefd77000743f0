"""A checkpoint comes back bit for bit, on any mesh, or not at all."""

import gc
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import checkpoint, sharding
from scaling.errors import BadInput

META = {'ledger': {'model': {'forward': 1.5e12}}, 'curve_rows': 3}


def _state(mesh, step=7, width=8):
  """The form of a state of training, with numbers that no rounding would leave as they are."""
  draw = lambda key: jax.random.normal(jax.random.key(key), (16, width)) / 3
  state = {
    'step': jnp.int32(step),
    'params': {'embed': draw(0), 'final_norm': jnp.full(width, np.float32(np.pi))},
    'moments': {'embed': draw(1) * 1e-30},
  }
  return jax.device_put(state, sharding.shardings(mesh, state))


def _form(mesh, state):
  return checkpoint.abstract(state, sharding.shardings(mesh, state))


def _same(got, state):
  assert jax.tree.structure(got) == jax.tree.structure(state)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(state)):
    assert a.dtype == b.dtype
    assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.fixture
def folder(tmp_path):
  return tmp_path / 'stages' / 'sft-0123456789' / 'checkpoints'


@pytest.fixture
def mesh():
  return sharding.make_mesh()


def test_nothing_saved_is_none(folder, mesh):
  form = _form(mesh, _state(mesh))
  assert checkpoint.restore(folder, form) is None
  folder.mkdir(parents=True)
  assert checkpoint.restore(folder, form) is None


@pytest.mark.parametrize(
  'before, after',
  [
    ({}, {}),
    ({'data': 8}, {'data': 1}),
    ({'data': 1}, {'data': 8}),
    ({'fsdp': 8}, {'data': 2, 'fsdp': 2, 'tensor': 2}),
  ],
)
def test_what_is_saved_comes_back_exactly_on_whatever_mesh(folder, before, after):
  state = _state(sharding.make_mesh(**before))
  checkpoint.save(folder, 7, state, META)
  mesh = sharding.make_mesh(**after)
  got, meta = checkpoint.restore(folder, _form(mesh, state))
  _same(got, state)
  assert meta == META
  assert jax.tree.map(lambda x: x.sharding, got) == sharding.shardings(mesh, state)


def test_the_newest_alone_is_kept(folder, mesh):
  for step in (2, 9, 10):  # 10 sorts before 2 and 9 as text
    checkpoint.save(folder, step, _state(mesh, step), META | {'curve_rows': step})
  assert [path.name for path in folder.iterdir()] == ['10']
  state, meta = checkpoint.restore(folder, _form(mesh, _state(mesh)))
  assert int(state['step']) == meta['curve_rows'] == 10


@pytest.mark.parametrize('step', [7, 6])
def test_a_save_that_orbax_would_drop_is_an_error(folder, mesh, step):
  checkpoint.save(folder, 7, _state(mesh), META)
  with pytest.raises(RuntimeError, match=f'step {step} was not saved: .* checkpoint of step 7'):
    checkpoint.save(folder, step, _state(mesh, step), {})
  state, meta = checkpoint.restore(folder, _form(mesh, _state(mesh)))
  assert int(state['step']) == 7 and meta == META


@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
@pytest.mark.parametrize(
  'change',
  [
    lambda state, mesh: _state(mesh, width=16),
    lambda state, mesh: _state(mesh, width=4),
    lambda state, mesh: state | {'moments': {}},
    lambda state, mesh: state | {'params': state['params'] | {'unembed': jnp.zeros((8, 16))}},
  ],
  ids=['wider', 'narrower', 'less', 'more'],
)
def test_another_form_is_one_line_that_names_the_stages_folder(folder, mesh, change):
  state = _state(mesh)
  checkpoint.save(folder, 7, state, META)
  with pytest.raises(BadInput, match='remove that folder and run again') as error:
    checkpoint.restore(folder, _form(mesh, change(state, mesh)))
  assert str(error.value).startswith(f'{folder.parent}: ')
  assert '\n' not in str(error.value)
  del error
  gc.collect()  # Orbax's reads that were cut short complain when they are collected: here


def test_a_half_written_checkpoint_is_passed_over_and_cleared_away(folder, mesh):
  """What a process killed while it saves leaves: Orbax renames the folder when all is in it."""
  state = _state(mesh)
  checkpoint.save(folder, 7, state, META)
  half = folder / '9.orbax-checkpoint-tmp'
  shutil.copytree(folder / '7', half)
  (half / 'commit_success.txt').unlink()
  shutil.rmtree(half / 'meta')
  got, meta = checkpoint.restore(folder, _form(mesh, state))
  _same(got, state)
  assert meta == META
  checkpoint.save(folder, 10, _state(mesh, 10), META)
  assert [path.name for path in folder.iterdir()] == ['10']
  assert int(checkpoint.restore(folder, _form(mesh, state))[0]['step']) == 10
