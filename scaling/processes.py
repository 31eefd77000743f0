"""A run of several processes: how they start, agree, wait for each other and stop.

Every host runs the same program on its own devices (JAX's multi-controller runtime), and all take
the same steps in the same order. Process 0 alone writes into the workdir and prints (`files.py`
sees to the first); what it finds there it tells the others (`once`). The workdir must be on a file
system that all processes see. In a run of one process nothing here waits or sends.
"""

import itertools
import json
import os
import signal
import sys
import zlib
from collections.abc import Callable

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils

from scaling.errors import BadInput

EXIT = 75  # of a run that was told to stop and has saved: "try again later", sysexits.h
PATIENCE = 6 * 3600  # seconds that processes wait for the first, which may be preparing data


class Preempted(Exception):
  """All processes have saved what they had, and stop; the same command goes on."""


def start(address: str | None, count: int | None, index: int | None) -> None:
  """Joins the processes of a run; before anything asks for devices. BadInput where it cannot.

  address: 'host:port' of process 0; count: of processes; index: of this one. All three are None on
  a TPU pod, under Slurm or under Open MPI, where JAX finds them.
  """
  given = [x is not None for x in (address, count, index)]
  flags = '--coordinator=HOST:PORT --num_processes=N --process_id=I'
  if any(given) and not all(given):
    raise BadInput(f'--multihost: give all of {flags}, or none where JAX finds them')
  if address is not None:
    host, _, port = address.rpartition(':')
    if not host or not port.isdigit():
      raise BadInput(f'--coordinator={address}: it must be HOST:PORT of process 0')
    if not 0 <= index < count:
      raise BadInput(
        f'--process_id={index}: it must be in 0 … {count - 1} (--num_processes less 1)'
      )
  try:
    jax.distributed.initialize(address, count, index)
  except ValueError as error:
    raise BadInput(f'--multihost: no cluster was found; give {flags}') from error
  except RuntimeError as error:
    line = str(error).strip().splitlines()[0]
    raise BadInput(f'--multihost: the processes did not come together ({line})') from error


def use_cores(count: int) -> None:
  """Before anything asks for devices: has JAX show so many CPU devices, as far as there are cores.

  Each then works on its own rows. JAX_NUM_CPU_DEVICES, where it is set, says otherwise.
  """
  if 'JAX_NUM_CPU_DEVICES' not in os.environ:
    jax.config.update('jax_num_cpu_devices', max(1, min(count, _cores())))


def _cores() -> int:
  return len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()


def count() -> int:
  """How many processes run this program together."""
  return jax.process_count()


def first() -> bool:
  """Whether this is the process that writes and prints."""
  return jax.process_index() == 0


def barrier(name: str, seconds: float = PATIENCE) -> None:
  """Waits until all processes are here."""
  ocp.multihost.get_barrier_sync_fn()(key=name, timeout_ms=int(seconds * 1000))


def once(work: Callable[[], object]) -> object:
  """What `work` returns when process 0 alone does it: JSON-able, the same in all processes.

  The others wait. A BadInput that it raises is raised in all of them.
  """
  if count() == 1:
    return work()
  told = None
  if first():
    try:
      told = {'value': work()}
    except BadInput as error:
      told = {'error': str(error)}
  barrier('once')
  told = _broadcast(told)
  if 'error' in told:
    raise BadInput(told['error'])
  return told['value']


def _broadcast(value):
  """A JSON-able value of process 0, in all processes."""
  text = np.frombuffer(json.dumps(value).encode(), np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(len(text))))
  padded = np.zeros(-(-size // 4096) * 4096, np.uint8)  # few shapes, so few programs to compile
  if first():
    padded[:size] = text
  return json.loads(multihost_utils.broadcast_one_to_all(padded)[:size].tobytes())


def agree(value, words: str) -> None:
  """BadInput in all processes where a JSON-able value is not the same in all of them."""
  if count() == 1:
    return
  code = np.uint32(zlib.crc32(json.dumps(value, sort_keys=True).encode()))
  codes = multihost_utils.process_allgather(code)
  other = np.flatnonzero(codes != codes[0])
  if len(other):
    raise BadInput(f'process {other[0]} and process 0: {words}')


def gather(tree):
  """A tree of arrays that are laid over the mesh, as whole host arrays in every process."""
  if count() == 1:
    return jax.device_get(tree)
  return multihost_utils.process_allgather(tree, tiled=True)


_noticed = [False]  # by the handler of a run of one process
_questions = itertools.count()


def watch() -> None:
  """From now on a SIGTERM is answered by `preempted`; a second one ends the process as ever.

  In a run of several processes JAX catches it, in any of them, and tells the others.
  """
  if count() > 1:
    return

  def notice(number, frame):
    _noticed[0] = True
    signal.signal(signal.SIGTERM, signal.SIG_DFL)

  signal.signal(signal.SIGTERM, notice)


def preempted() -> bool:
  """Whether to save and stop: a SIGTERM came, and this is the place for all processes to do it.

  Every process asks at the same places. True once; whoever gets it raises Preempted.
  """
  if count() == 1:
    return _noticed[0]
  reached = multihost_utils.reached_preemption_sync_point(next(_questions))
  if reached:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
  return reached


def leave(code: int, at_once: bool = False) -> None:
  """Ends this process. Others that do not end as well within ten seconds are left for JAX to end.

  At a usual exit JAX has them wait minutes for each other, and for one that is gone. at_once: no
  thread is waited for; those of a save that Ctrl-C cut off would say at length what they miss.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  if jax.distributed.is_initialized():
    try:
      barrier('leave', 10)
    except Exception:
      os._exit(code)
  if at_once:
    os._exit(code)
  sys.exit(code)
