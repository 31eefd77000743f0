"""Hostile jobs: each is bounded, says how it ended, and leaves nothing behind."""

import os
import socket
import subprocess
import time
import types
from pathlib import Path

import pytest

from scaling.errors import BadInput
from scaling.rewards import sandbox, untrusted
from scaling.rewards.sandbox import Job, Limits

ROOT = Path(__file__).parents[2]
QUICK = Limits(cpu_seconds=1, wall_seconds=3.0)  # for jobs that are to run out of time
AMPLE = Limits(cpu_seconds=20, wall_seconds=60.0)  # for all others, on a busy machine too


@pytest.fixture(scope='module')
def pool():
  pool = sandbox.open_pool(2)
  yield pool
  sandbox.close(pool)


def run(pool, *sources, limits=AMPLE):
  jobs = [Job('scaling.rewards.untrusted:script', {'source': s}, limits=limits) for s in sources]
  return sandbox.run(pool, jobs)


def test_jobs_keep_their_order_and_their_input(pool):
  jobs = [
    Job('scaling.rewards.untrusted:script', {'source': 'print(int(input()) + 1)'}, f'{i}\n')
    for i in range(20)
  ]
  found = sandbox.run(pool, jobs)
  assert [result.output for result in found] == [f'{i + 1}\n' for i in range(20)]
  assert all(result.status == 'ok' for result in found)
  (value,) = sandbox.run(pool, [Job('math:gcd', {})])
  assert value == sandbox.Result('ok', 0, '', value.seconds)


@pytest.mark.parametrize(
  'source, status',
  [
    ('while True: pass', 'timeout'),
    ('import time; time.sleep(100)', 'timeout'),
    ('input(); print(1)', 'error'),  # an empty stdin
    ('x = bytearray(10 ** 10)', 'memory'),
    ('x = []\nwhile True: x.append(bytearray(2 ** 20))', 'memory'),
    ("while True: print('x' * 10_000)", 'output'),
    ("import os\nwhile True: os.write(2 + 1, b'x' * 10_000)", 'output'),  # into the result
    ('def f(): f()\nf()', 'error'),
    ('1 / 0', 'error'),
    ('raise SystemExit(0)', 'error'),
    ('import os; os._exit(0)', 'error'),
    ('import os, signal; os.kill(os.getpid(), signal.SIGKILL)', 'ok'),  # nothing: it is process 1
    ('import os, signal; os.kill(-1, signal.SIGKILL)', 'error'),  # there is no other
    ('import ctypes; ctypes.string_at(0)', 'error'),
    ("import os; os.write(3, b'{}'); os._exit(0)", 'error'),  # a result without the token
    ('import os; os.fork()', 'error'),
    ('import threading; threading.Thread(target=print).start()', 'error'),
    ("open('a', 'wb').write(b'x' * 2 ** 24)", 'error'),  # a file too large
    ('for i in range(9): open(str(i), "wb").write(b"x" * 2 ** 20 * 3)', 'error'),  # all files
    ('for i in range(999): open(str(i), "w")', 'error'),
    ("import socket; socket.create_connection(('127.0.0.1', 22), 2)", 'error'),
    ("import socket; socket.create_connection(('1.1.1.1', 53), 2)", 'error'),
    ('import socket; socket.socket(socket.AF_VSOCK)', 'error'),  # no network namespace covers it
    ("import socket; socket.getaddrinfo('localhost.localdomain', 80)", 'error'),
    ('import ctypes\nl = ctypes.CDLL(None)\nassert l.shmget(0, 1 << 20, 0o1777) >= 0', 'error'),
    ("import os; os.memfd_create('x')", 'error'),
    ('import ctypes\nl = ctypes.CDLL(None)\nassert l.unshare(0x10000000) == 0', 'error'),
    ("import os; os.chroot('/')", 'error'),
    ('import os; os.setuid(0)', 'error'),
    ("open('/work')", 'error'),
    ("open('/proc/self/environ')", 'error'),
    ("open('/etc/passwd')", 'error'),
    ("open('/usr/owned', 'w')", 'error'),
    ("open('/owned', 'w')", 'error'),
    ("open('/dev/null', 'w').write('x'); open('a', 'w').write('x')", 'ok'),
  ],
)
def test_a_hostile_job_is_bounded(pool, source, status):
  started = time.monotonic()
  limits = QUICK if status == 'timeout' else AMPLE
  found = run(pool, source, 'print(1)', limits=limits)
  assert found[0].status == status, found[0]
  assert found[1].status == 'ok' and found[1].output == '1\n'  # its neighbour's own
  assert found[0].value is None and len(found[0].output) <= limits.output_bytes
  assert time.monotonic() - started < 2 * limits.wall_seconds + 30


def test_a_fork_bomb_is_bounded_and_gone(pool):
  bomb = """
import os
while True:
  try:
    os.fork()
  except OSError:
    pass
"""
  limits = AMPLE._replace(processes=16, wall_seconds=2.0)
  (found,) = run(pool, bomb, limits=limits)
  assert found.status == 'timeout'
  counted = """
import os
children = 0
try:
  while True:
    if os.fork() == 0:
      import time
      time.sleep(9)
    children += 1
except OSError:
  print(children)
"""
  (found,) = run(pool, counted, limits=limits)  # those of the bomb no longer count
  assert (found.status, found.output) == ('ok', '15\n')


def test_nothing_of_a_job_is_left_for_the_next(pool):
  leave = """
import os, builtins
open('/tmp/left', 'w').write('x')
builtins.print = None
from scaling.rewards import untrusted
untrusted.script = None
"""
  look = "import os; print(os.listdir('/tmp'), sorted(os.environ), os.getppid(), os.getpid())"
  run(pool, *[leave] * 4)
  for found in run(pool, *[look] * 4):
    assert found.output.startswith('[] [') and found.output.endswith('] 0 1\n')
    assert not {'AWS', 'KEY', 'TOKEN', 'SECRET'} & set(found.output.upper().split('_'))


def test_secrets_of_the_environment_are_not_there(monkeypatch):
  monkeypatch.setenv('OPENAI_API_KEY', 'secret')
  pool = sandbox.open_pool(1)
  try:
    (found,) = run(pool, 'import os; print(dict(os.environ))')
  finally:
    sandbox.close(pool)
  assert 'secret' not in found.output and 'HOME' in found.output


def test_a_server_of_the_machine_cannot_be_reached(pool):
  with socket.create_server(('127.0.0.1', 0)) as server:
    port = server.getsockname()[1]
    socket.create_connection(('127.0.0.1', port), 5).close()
    (found,) = run(pool, f"import socket; socket.create_connection(('127.0.0.1', {port}), 2)")
  assert (found.status, found.message) == ('error', 'PermissionError')


def test_a_lost_worker_is_replaced(pool):
  workers = [pool.idle.get() for _ in range(2)]
  for worker in workers:
    worker.process.kill()
    pool.idle.put(worker)
  found = run(pool, *['print(1)'] * 6)
  assert [result.status for result in found].count('lost') == 2
  assert all(result.status == 'ok' for result in run(pool, *['print(1)'] * 4))


def test_workers_end_with_the_pool():
  pool = sandbox.open_pool(1)
  worker = pool.idle.get()
  pool.idle.put(worker)
  assert worker.process.poll() is None
  sandbox.close(pool)
  assert worker.process.poll() is not None


def test_a_call_to_prepare_is_made_once_in_each_worker(pool):
  job = Job('scaling.rewards.untrusted:score', {'task': 'gcd', 'answer': '1', 'entry': {}},
            prepare=(('scaling.rewards.untrusted:scorer', {'task': 'gcd'}),))  # fmt: skip
  found = sandbox.run(pool, [job] * 4)
  assert all(result.status == 'error' for result in found)  # an entry without an answer
  assert untrusted.score('gcd', '1', {'answer': '1'})


def test_where_it_is_not_allowed_it_is_refused(monkeypatch):
  monkeypatch.setattr(sandbox, 'sys', types.SimpleNamespace(platform='darwin'))
  with pytest.raises(BadInput, match=r'^sandbox: not available here \(it needs Linux, .* darwin\)'):
    sandbox.open_pool(1)
  with pytest.raises(BadInput, match='0 workers'):
    sandbox.open_pool(0)


UNPRIVILEGED = """
import sys
sys.path.insert(0, sys.argv[1])
from scaling.rewards import sandbox
pool = sandbox.open_pool(1)
job = sandbox.Job('scaling.rewards.untrusted:script', {'source': 'import os; print(os.getuid())'})
(found,) = sandbox.run(pool, [job])
print(found.status, found.output)
(found,) = sandbox.run(pool, [job._replace(argument={'source': 'import os; os.fork()'})])
print(found.status, found.message)
sandbox.close(pool)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason='only root can become another user')
def test_it_works_for_any_user_or_says_that_it_does_not():
  """As a user without rights: by a user namespace, where the kernel allows one."""
  python = Path('/usr/bin/python3')
  if not python.exists():
    pytest.skip('no Python that every user may run')
  done = subprocess.run(
    [python, '-c', UNPRIVILEGED, str(ROOT)], user=12345, group=12345, extra_groups=[],
    capture_output=True, text=True, env={'PYTHONDONTWRITEBYTECODE': '1'}, cwd='/',
  )  # fmt: skip
  if 'sandbox: not available here' in done.stderr or 'Permission denied' in done.stderr:
    pytest.skip(done.stderr.splitlines()[-1])
  assert done.stdout.splitlines() == ['ok 65534', '', 'error BlockingIOError'], done.stderr
