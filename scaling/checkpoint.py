"""Checkpoints of a stage, by Orbax: the state of training, and what stands beside it as JSON.

Only the newest is kept. Saving is atomic: a process killed while it saves leaves the one before.
"""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from scaling.errors import BadInput


def _manager(folder: Path) -> ocp.CheckpointManager:
  options = ocp.CheckpointManagerOptions(
    max_to_keep=1, enable_async_checkpointing=False, cleanup_tmp_directories=True
  )
  return ocp.CheckpointManager(Path(folder).resolve(), options=options)


def save(folder: Path, step: int, state, meta: dict) -> None:
  """Saves a pytree of arrays and a JSON-able dict under `step`, and drops the checkpoint before.

  RuntimeError where there is a checkpoint of this step or a later one: Orbax would not save it.
  """
  with _manager(folder) as manager:
    saved = manager.save(
      step,
      args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
    )
    if not saved:
      raise RuntimeError(
        f'{folder}: step {step} was not saved: there is a checkpoint of step '
        f'{manager.latest_step()}, and steps only grow'
      )


def restore(folder: Path, like) -> tuple | None:
  """(state, meta) of the newest checkpoint, or None where there is none.

  like: a pytree of jax.ShapeDtypeStruct with shardings, the form that the state must have.
  BadInput where the checkpoint has another form: it belongs to another model or version. `folder`
  is the stage's checkpoints/; the message names the stage's own folder, which holds them.
  """
  if not Path(folder).is_dir():
    return None
  with _manager(folder) as manager:
    step = manager.latest_step()
    if step is None:
      return None
    try:
      got = manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore()),
      )
    except (ValueError, KeyError) as error:
      first = str(error).strip().splitlines()[0].split('. ')[0].rstrip(':')
      raise BadInput(
        f'{Path(folder).parent}: the checkpoint of step {step} does not have the form of this '
        f'model ({first}); remove that folder and run again'
      ) from error
  return got.state, got.meta


def abstract(state, shardings):
  """The form of a state for `restore`: shapes, dtypes, and where each array is to be laid."""
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), state, shardings
  )
