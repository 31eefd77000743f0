"""Checkpoints of a stage, by Orbax: the state of training, and what stands beside it as JSON.

Only the newest is kept, unless a manager is told otherwise. A save copies the state and goes on
writing while training does; it counts when it is whole, so a process killed while it saves leaves
the one before. In a run of several processes each writes and reads what its own devices hold; all
of them call these functions.
"""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from scaling import processes
from scaling.errors import BadInput


class Manager(ocp.CheckpointManager):
  """Orbax's manager, open while a stage trains. Closing it waits until all is written."""

  def __init__(self, folder: Path, keep: int = 1):
    super().__init__(
      Path(folder).resolve(),
      options=ocp.CheckpointManagerOptions(
        max_to_keep=keep, cleanup_tmp_directories=True, save_root_metadata=False
      ),
      item_handlers={
        'state': ocp.StandardCheckpointHandler(),
        'meta': ocp.JsonCheckpointHandler(),
      },
    )

  def reached_preemption(self, step: int) -> bool:
    """Never: the run loops ask themselves (`processes.preempted`), with a count of their own."""
    return False


def save(manager: Manager, step: int, state, meta: dict) -> None:
  """Saves a pytree of arrays and a JSON-able dict under `step`, and drops the checkpoint before.

  Returns when the state is copied; `manager.wait_until_finished()` or its closing says that it is
  written. RuntimeError where there is a checkpoint of this step or a later one: Orbax would not
  save it.
  """
  manager.wait_until_finished()
  saved = manager.save(
    step,
    args=ocp.args.Composite(state=ocp.args.StandardSave(state), meta=ocp.args.JsonSave(meta)),
  )
  if not saved:
    raise RuntimeError(
      f'{manager.directory}: step {step} was not saved: there is a checkpoint of step '
      f'{manager.latest_step()}, and steps only grow'
    )


def _newest(folder: Path) -> int | None:
  """The step of the newest whole checkpoint."""
  steps = ocp.path.step.checkpoint_steps(folder) if Path(folder).is_dir() else []
  return max(steps, default=None)


def _arrays(tree) -> dict:
  """(shape, dtype) of each array by its name, say params/blocks/wq."""
  leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
  name = lambda path: jax.tree_util.keystr(path, simple=True, separator='/')
  return {name(path): (tuple(x.shape), x.dtype) for path, x in leaves}


def _difference(found: dict, wanted: dict) -> str | None:
  """The first array that is not as it should be, in words."""
  show = lambda form: f'{form[1]}{list(form[0])}'
  for name in sorted(found | wanted):
    if name not in found:
      return f'{name} is not in it'
    if name not in wanted:
      return f'{name} is in it, and not in this model'
    if found[name] != wanted[name]:
      return f'{name} is {show(found[name])} in it and {show(wanted[name])} in this model'
  return None


def restore(folder: Path, like, step: int | None = None) -> tuple | None:
  """(state, meta) of the checkpoint of a step, by default the newest; None where there is none.

  like: a pytree of jax.ShapeDtypeStruct with shardings, the form that the state must have; the mesh
  and the number of processes may be others than it was saved with. BadInput, naming an array, where
  the checkpoint has another form: it belongs to another model or version. `folder` is the stage's
  checkpoints/; the message names the stage's own folder, which holds them.
  """
  step = processes.once(lambda: _newest(folder)) if step is None else step
  if step is None:
    return None
  remedy = 'remove that folder and run again'
  with Manager(folder) as manager:
    try:
      wrong = _difference(_arrays(manager.item_metadata(step)['state']), _arrays(like))
      if wrong:
        raise BadInput(
          f'{Path(folder).parent}: the checkpoint of step {step} is of another model: {wrong}; '
          f'{remedy}'
        )
      got = manager.restore(
        step,
        args=ocp.args.Composite(state=ocp.args.StandardRestore(like), meta=ocp.args.JsonRestore()),
      )
    except (ValueError, KeyError, TypeError, OSError) as error:
      if isinstance(error, BadInput):
        raise
      first = str(error).strip().splitlines()[0].split('. ')[0].rstrip(':')
      raise BadInput(
        f'{Path(folder).parent}: the checkpoint of step {step} cannot be read ({first}); {remedy}'
      ) from error
  return got.state, got.meta
