"""Where text that nobody read is run: a pool of workers, each of which puts every job in a jail.

    jobs [Job, …] -> run(pool, jobs) -> [Result, …]        a Result's status says how its job ended

A job is a function of a module, 'scaling.rewards.untrusted:score', and its arguments; it runs in a
process of its own, forked for it by a worker (`warden.py`) that was started once and has imported
what functions need. Whatever a job does to its interpreter is gone with it: a reward that raises,
hangs or prints gigabytes costs its own rollout and no other.

What is guaranteed, on Linux 5.12 or newer, x86_64 or aarch64, as root or as any user where the
kernel allows user namespaces:
  - no network: a network namespace without interfaces;
  - no file of the machine but its programs and libraries and Python's, none of them writable: not
    the workdir, not the data, not /proc, no environment variables, no keys;
  - one folder to write to, /tmp, in memory, bounded, gone with the job;
  - no other process to see or signal (a PID namespace, which is killed as a whole), no shared
    memory, no privilege and no way to one (no_new_privs, no user namespaces);
  - `Limits`: CPU and wall seconds, bytes of memory (of each process, beside what the worker has),
    of a file, of output, and the number of processes.
Not guaranteed: protection from faults in the kernel; and that a job's own result is honest. A
function that runs foreign code in its own process (a scorer with `eval`, asserts after a program)
can be made to return what that code likes, if it goes looking for it. Where the verdict is made of
output alone, outside (`verifiers`: tests of stdin and stdout), it cannot.
Where the kernel does not allow all of this the sandbox is not there: BadInput, and nothing is run.

CPU seconds decide before wall seconds do, so that a verdict does not hang on how busy a machine is;
wall seconds end what sleeps.
"""

import atexit
import concurrent.futures
import contextlib
import functools
import os
import queue
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from scaling.errors import BadInput
from scaling.rewards import warden

STATUSES = ('ok', 'timeout', 'memory', 'output', 'error', 'lost')  # of a Result; see there
MODULES = ('scaling.rewards.untrusted',)  # of this project, whose functions jobs may be
STARTING = 60.0  # seconds that a worker may take to start, or to prepare
GRACE = 10.0  # … to answer after a job's wall seconds are over


class Limits(NamedTuple):
  """Of one job."""

  cpu_seconds: int = 2  # of each of its processes
  wall_seconds: float = 10.0
  memory_bytes: int = 256 << 20  # of each of its processes, beside what the worker has
  output_bytes: int = 64 << 10  # of stdout and stderr together
  file_bytes: int = 4 << 20  # of one file
  scratch_bytes: int = 8 << 20  # of all files
  processes: int = 1  # and threads


class Job(NamedTuple):
  """function(**argument), both of JSON; `prepare`: calls made once in each worker before it."""

  function: str  # 'module:name'
  argument: dict
  stdin: str = ''
  limits: Limits = Limits()
  prepare: tuple = ()  # of (function, argument); trusted: they run outside the limits


class Result(NamedTuple):
  """How a job ended. All but 'ok' say that it gave no value.

  timeout: CPU or wall seconds were over; memory: it ran out of it; output: it wrote too much;
  error: it raised, or ended without a result; lost: its worker ended, or did not answer.
  """

  status: str  # of STATUSES
  value: object  # JSON; None unless 'ok'
  output: str  # what it wrote to stdout and stderr, up to the limit
  seconds: float  # of CPU
  message: str = ''  # of an error: the exception's type


class Pool(NamedTuple):
  """Workers, each of which runs a job at a time."""

  threads: concurrent.futures.ThreadPoolExecutor
  idle: queue.SimpleQueue  # of _Worker


class _Worker(NamedTuple):
  process: subprocess.Popen
  prepared: set


def _start() -> _Worker:
  """A worker, in its jail. BadInput where there can be none."""
  if sys.platform != 'linux':
    raise _unavailable(f'it needs Linux, and this is {sys.platform}')
  root = str(Path(__file__).resolve().parents[2])
  kept = {name: value for name, value in os.environ.items() if name.startswith('OPENBLAS_')}
  fixed = {'PATH': '/usr/bin:/bin', 'HOME': '/tmp', 'LANG': 'C.UTF-8', 'PYTHONPATH': root}
  fixed |= {'PYTHONDONTWRITEBYTECODE': '1', 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'}
  process = subprocess.Popen(
    [sys.executable, '-sP', '-m', 'scaling.rewards.warden', *MODULES],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0,
    env=kept | fixed, cwd='/', start_new_session=True,
  )  # fmt: skip
  said = _answer(process, STARTING)
  if said is None or 'refused' in said:
    _stop(process)
    raise _unavailable('its worker did not start' if said is None else said['refused'])
  return _Worker(process, set())


def _unavailable(reason: str) -> BadInput:
  return BadInput(
    f'sandbox: not available here ({reason}): run as root, or allow user namespaces (sysctl '
    'kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or take '
    'a task whose verifier runs no text'
  )


def _stop(process: subprocess.Popen) -> None:
  """Ends a worker, and with it whatever it runs."""
  process.kill()
  process.wait()
  for pipe in (process.stdin, process.stdout):
    with contextlib.suppress(OSError):
      pipe.close()


def _answer(process: subprocess.Popen, seconds: float) -> dict | None:
  """The worker's next message; None where none came in time, or it is gone."""
  ready, _, _ = select.select([process.stdout], [], [], seconds)
  return warden.receive(process.stdout.fileno()) if ready else None


def _ask(worker: _Worker, message: dict, seconds: float) -> dict | None:
  try:
    warden.send(worker.process.stdin.fileno(), message)
  except OSError:
    return None
  return _answer(worker.process, seconds)


def open_pool(workers: int) -> Pool:
  """A pool of so many workers. BadInput where the sandbox is not available, or does not work."""
  if workers < 1:
    raise BadInput(f'sandbox: {workers} workers: it needs at least 1')
  pool = Pool(concurrent.futures.ThreadPoolExecutor(workers), queue.SimpleQueue())
  try:
    for _ in range(workers):
      pool.idle.put(_start())
    (tried,) = run(pool, [Job('os:getpid', {})])
    if tried.value != 1:  # the first process of its namespace
      raise _unavailable(f'a job that should say 1 ended with {tried}')
  except BaseException:
    close(pool)
    raise
  return pool


def close(pool: Pool) -> None:
  """Ends a pool's workers."""
  pool.threads.shutdown(wait=True)
  with contextlib.suppress(queue.Empty):
    while True:
      _stop(pool.idle.get_nowait().process)


@functools.cache
def shared() -> Pool:
  """The pool of this process, with a worker for each CPU that it may use; it ends with it."""
  pool = open_pool(len(os.sched_getaffinity(0)) if sys.platform == 'linux' else 1)
  atexit.register(close, pool)
  return pool


def run(pool: Pool, jobs: Sequence[Job]) -> list[Result]:
  """The results of jobs, in their order. A job that ends its worker costs its own result alone."""
  return list(pool.threads.map(lambda job: _one(pool, job), jobs))


def _one(pool: Pool, job: Job) -> Result:
  """A job's result, from the next worker that is idle; a worker that is lost is replaced."""
  worker = pool.idle.get()
  answer = None
  try:
    new = [call for call in job.prepare if repr(call) not in worker.prepared]
    if new:
      answer = _ask(worker, {'prepare': new}, STARTING)
      if answer is None or 'failed' in answer:
        why = 'it was lost' if answer is None else answer['failed']
        raise BadInput(f'sandbox: a worker could not prepare {new}: {why}')
      worker.prepared.update(map(repr, new))
    message = {
      'function': job.function,
      'argument': job.argument,
      'stdin': job.stdin,
      'limits': job.limits._asdict(),
    }
    answer = _ask(worker, message, job.limits.wall_seconds + GRACE)
  finally:
    if answer is None:
      _stop(worker.process)
      worker = _start()
    pool.idle.put(worker)
  if answer is None:
    return Result('lost', None, '', 0.0)
  if 'jail' in answer:
    raise _unavailable(answer['jail'])
  return Result(**answer)
