"""What an RL run carries from update to update beside its policy, and how it is kept.

It stands beside each checkpoint: arrays in side/STEP.npz, the critic in checkpoints of its own. The
policy's checkpoint is written last, and makes all of it count: what is left of a later step, of a
run killed before that, is removed when the stage goes on.
"""

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scaling import checkpoint, files, processes, rollouts, train_step
from scaling.stages import stage as stages


class Side(NamedTuple):
  """What a run carries from update to update beside the policy."""

  queue: list  # Rollouts in flight, the next first
  cursor: int  # draws of prompts so far
  rates: np.ndarray  # float64 [N]: running pass rates
  kl_coef: float
  critic: object  # TrainState, or None


def side_path(setting: stages.Setting, stage_id: str, step: int) -> Path:
  """Where a stage keeps the Side of its checkpoint of this step."""
  return stages.folder(setting.workdir, stage_id) / 'side' / f'{step}.npz'


def begin(setting: stages.Setting, stage: stages.Stage, critic_cfg, prompts: int):
  """(state, meta, curve, Side) with which a stage goes on.

  critic_cfg: of the critic's model, or None; prompts: of the pool.
  """
  recipe = stage.recipe
  state, meta, curve = stages.begin(setting, stage)
  step, critic = int(state.step), None
  processes.once(lambda: _drop_after(stages.folder(setting.workdir, stage.id), step))
  own = side_path(setting, stage.id, step)
  source = stage.id if processes.once(own.exists) else stage.parent
  path = side_path(setting, source, step)
  if critic_cfg is not None:
    opt = stages.optimizer(recipe)
    like = train_step.form(critic_cfg, opt, setting.mesh)
    folder = stages.folder(setting.workdir, source) / 'critic'
    if step > 0:
      critic, _ = checkpoint.restore(folder, like, step)
    else:
      params = stages.state_of(setting.workdir, stage.parent, setting.mesh).params
      fresh = stages.key(recipe['seed'], 'adapters')
      restart = train_step.make_restart(critic_cfg, opt, setting.mesh)
      critic = restart(params, fresh)
  if step == 0:
    unseen = np.full(prompts, np.nan)
    return state, meta, curve, Side([], 0, unseen, recipe['kl_coef'], critic)
  with np.load(path) as arrays:
    side = Side(
      rollouts.unstack(arrays),
      int(arrays['cursor']),
      arrays['rates'],
      float(arrays['kl_coef']),
      critic,
    )
  return state, meta, curve, side


def _drop_after(folder: Path, step: int) -> None:
  """Removes critics and Sides of steps after the policy's checkpoint: they never count."""
  for path in [*folder.glob('critic/*'), *folder.glob('side/*.npz')]:
    if path.stem.isdecimal() and int(path.stem) > step:
      shutil.rmtree(path) if path.is_dir() else path.unlink()


def save(setting, stage, out, critics, state, side: Side, meta: dict, curve: list) -> None:
  """A checkpoint of all of it; the one before stays until the next.

  out: stages.Output; critics: the Manager of the critic's checkpoints, or None.
  """
  step = int(state.step)
  if critics is not None:
    checkpoint.save(critics, step, side.critic, {})
    critics.wait_until_finished()
  arrays = rollouts.stack(side.queue)
  arrays |= {'cursor': side.cursor, 'rates': side.rates, 'kl_coef': side.kl_coef}
  path = side_path(setting, stage.id, step)
  files.write_arrays(path, arrays)
  stages.save(out, state, meta, curve)
  if processes.first():
    for old in sorted(path.parent.glob('*.npz'), key=lambda p: int(p.stem))[:-2]:
      old.unlink()
