"""A checkpoint comes back bit for bit, on any mesh, or not at all."""

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
  return jax.tree.map(
    lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
    state,
    sharding.shardings(mesh, state),
  )


def _same(got, state):
  assert jax.tree.structure(got) == jax.tree.structure(state)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(state)):
    assert a.dtype == b.dtype
    assert np.array_equal(np.asarray(a), np.asarray(b))


def _save(folder, *what):
  with checkpoint.Manager(folder) as manager:
    checkpoint.save(manager, *what)


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
  _save(folder, 7, state, META)
  mesh = sharding.make_mesh(**after)
  got, meta = checkpoint.restore(folder, _form(mesh, state))
  _same(got, state)
  assert meta == META
  assert jax.tree.map(lambda x: x.sharding, got) == sharding.shardings(mesh, state)


def test_the_newest_alone_is_kept(folder, mesh):
  for step in (2, 9, 10):  # 10 sorts before 2 and 9 as text
    _save(folder, step, _state(mesh, step), META | {'curve_rows': step})
  assert [path.name for path in folder.iterdir()] == ['10']
  state, meta = checkpoint.restore(folder, _form(mesh, _state(mesh)))
  assert int(state['step']) == meta['curve_rows'] == 10


@pytest.mark.parametrize('step', [7, 6])
def test_a_save_that_orbax_would_drop_is_an_error(folder, mesh, step):
  _save(folder, 7, _state(mesh), META)
  with pytest.raises(RuntimeError, match=f'step {step} was not saved: .* checkpoint of step 7'):
    _save(folder, step, _state(mesh, step), {})
  state, meta = checkpoint.restore(folder, _form(mesh, _state(mesh)))
  assert int(state['step']) == 7 and meta == META


@pytest.mark.parametrize(
  'change, says',
  [
    (
      lambda state, mesh: _state(mesh, width=16),
      r'moments/embed is float32\[16, 8\] in it and .*16\]',
    ),
    (
      lambda state, mesh: _state(mesh, width=4),
      r'moments/embed is float32\[16, 8\] in it and .*4\]',
    ),
    (lambda state, mesh: state | {'moments': {}}, 'moments/embed is in it, and not in this model'),
    (
      lambda state, mesh: state | {'params': state['params'] | {'unembed': jnp.zeros((8, 16))}},
      'params/unembed is not in it',
    ),
    (
      lambda state, mesh: state | {'step': jnp.float32(7)},
      r'step is int32\[\] in it and float32\[\]',
    ),
  ],
  ids=['wider', 'narrower', 'less', 'more', 'dtype'],
)
def test_another_form_is_one_line_that_names_the_stages_folder_and_the_array(
  folder, mesh, change, says
):
  state = _state(mesh)
  _save(folder, 7, state, META)
  with pytest.raises(BadInput, match=f'{says}.*; remove that folder and run again') as error:
    checkpoint.restore(folder, _form(mesh, change(state, mesh)))
  assert str(error.value).startswith(f'{folder.parent}: ')
  assert '\n' not in str(error.value)


def test_a_checkpoint_with_a_lost_file_is_one_line(folder, mesh):
  state = _state(mesh)
  _save(folder, 7, state, META)
  shutil.rmtree(folder / '7' / 'state')
  with pytest.raises(BadInput, match='the checkpoint of step 7 cannot be read') as error:
    checkpoint.restore(folder, _form(mesh, state))
  assert '\n' not in str(error.value)


def test_what_is_saved_is_the_state_at_the_save_though_training_goes_on(folder, mesh):
  """The arrays are donated to the next steps while Orbax writes."""
  step = jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)
  fresh = lambda: {'params': {'embed': jnp.arange(4_000_000, dtype=jnp.float32).reshape(2000, -1)}}
  state, form = jax.device_put(fresh()), _form(mesh, fresh())
  with checkpoint.Manager(folder) as manager:
    for number in (1, 2, 3):
      for _ in range(5):
        state = step(state)
      checkpoint.save(manager, number, state, META)
    for _ in range(5):
      state = step(state)
  got, _ = checkpoint.restore(folder, form)
  _same(got, jax.tree.map(lambda x: x + 15, fresh()))
  assert float(state['params']['embed'][0, 0]) == 20


def test_a_half_written_checkpoint_is_passed_over_and_cleared_away(folder, mesh):
  """What a process killed while it saves leaves: Orbax renames the folder when all is in it."""
  state = _state(mesh)
  _save(folder, 7, state, META)
  half = folder / '9.orbax-checkpoint-tmp'
  shutil.copytree(folder / '7', half)
  (half / 'commit_success.txt').unlink()
  shutil.rmtree(half / 'meta')
  got, meta = checkpoint.restore(folder, _form(mesh, state))
  _same(got, state)
  assert meta == META
  _save(folder, 10, _state(mesh, 10), META)
  assert [path.name for path in folder.iterdir()] == ['10']
  assert int(checkpoint.restore(folder, _form(mesh, state))[0]['step']) == 10
