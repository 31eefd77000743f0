"""What an RL run carries beside its policy, where it was killed between their checkpoints."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling import checkpoint
from scaling.stages import carried
from scaling.stages import stage as stages


class Killed(Exception):
  pass


def side_at(step):
  return carried.Side([], step, np.full(3, 0.5), 0.0, {'w': jnp.full(8, float(step))})


@pytest.fixture
def run(tmp_path, monkeypatch):
  """begin(step of the policy's checkpoint) -> Side; save(step, killed) as a run of PPO does it."""
  stage = stages.make('rl', 'sft-1', '', {'seed': 0, 'kl_coef': 0.0})
  setting = types.SimpleNamespace(workdir=tmp_path, mesh=None)
  at = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  like = {'w': jax.ShapeDtypeStruct((8,), jnp.float32, sharding=at)}
  monkeypatch.setattr(stages, 'optimizer', lambda recipe: None)
  monkeypatch.setattr(carried.train_step, 'form', lambda *args: like)
  folder = stages.folder(tmp_path, stage.id)

  def begin(step):
    state = types.SimpleNamespace(step=step)
    monkeypatch.setattr(stages, 'begin', lambda *args: (state, {}, []))
    return carried.begin(setting, stage, object(), 3)[3]

  def save(step, killed=False):
    def policy(*args):
      if killed:
        raise Killed

    monkeypatch.setattr(stages, 'save', policy)
    with checkpoint.Manager(folder / 'critic', keep=2) as critics:
      state = types.SimpleNamespace(step=step)
      carried.save(setting, stage, None, critics, state, side_at(step), {}, [])

  return begin, save, folder


def test_a_run_killed_before_its_policy_was_saved_goes_on(run):
  begin, save, _ = run
  save(1)
  with pytest.raises(Killed):
    save(2, killed=True)
  side = begin(1)  # the critic and the Side of step 2 are there, the policy is not
  assert side.cursor == 1 and (np.asarray(side.critic['w']) == 1).all()
  save(2)
  assert begin(2).cursor == 2


def test_what_a_killed_run_left_pushes_out_nothing_that_counts(run):
  begin, save, folder = run
  save(1)
  with pytest.raises(Killed):
    save(3, killed=True)
  begin(1)
  save(2)
  assert sorted(p.stem for p in (folder / 'side').iterdir()) == ['1', '2']
  side = begin(1)  # the policy's checkpoint of step 2 was not written whole
  assert side.cursor == 1 and (np.asarray(side.critic['w']) == 1).all()
