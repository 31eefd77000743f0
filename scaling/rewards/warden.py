"""The process that holds a sandbox: it builds the jail once, then runs each job in a child of it.

    python -m scaling.rewards.warden MODULE …      as `scaling.rewards.sandbox` starts it

MODULES are imported before the jail closes: in it this project's own files are not to be seen.
Messages are JSON behind 8 bytes of length: to it on fd 0, from it on fd 1. The warden itself runs
trusted code alone; a job's function runs in a child that is forked for it and killed after it.
What the jail is made of is said in `scaling.rewards.sandbox`. Nothing here imports more than the
standard library, so that a fork is cheap and has nothing to leak.
"""

import ctypes
import gc
import importlib
import io
import json
import os
import platform
import resource
import secrets
import select
import signal
import struct
import sys
import time

NEWNS, NEWUTS, NEWIPC = 0x00020000, 0x04000000, 0x08000000  # of unshare(2)
NEWUSER, NEWPID, NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18  # of mount(2)
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, RDONLY, NOSUID = 442, -100, 0x8000, 1, 2
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
NOBODY = 65534
VALUE_BYTES = 1 << 20  # of what a function returns

# System calls that a job is refused: memory that no limit counts (SysV shared memory, memfd), doors
# into the kernel that no verdict needs, and sockets, of which those to a virtual machine's host
# (AF_VSOCK) know no network namespace. By machine: (audit architecture, numbers).
REFUSED = {  # socket shmget semget msgget memfd_create ptrace add_key keyctl perf bpf userfaultfd
  'x86_64': (0xC000003E, (41, 29, 64, 68, 319, 101, 248, 250, 298, 321, 323, 425)),  # … io_uring
  'aarch64': (0xC00000B7, (198, 194, 190, 186, 279, 117, 217, 219, 241, 280, 282, 425)),
}

libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments) -> None:
  """A function of libc that returns 0, or OSError with its name."""
  wide = [ctypes.c_ulong(a) if isinstance(a, int) else a for a in arguments]
  if getattr(libc, name)(*wide) != 0:
    error = ctypes.get_errno()
    raise OSError(error, f'{name}: {os.strerror(error)}')


# -- the jail


def _sources() -> list[str]:
  """What a job may read of the machine: the system's programs and libraries, and Python's."""
  places = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/etc/ld.so.cache']
  own = os.path.realpath(os.environ['PYTHONPATH'])
  paths = [os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, *sys.path) if path]
  places += [path for path in paths if path != own]
  found = []
  for path in dict.fromkeys(places):
    inside = any(path.startswith(f'{whole}/') for whole in found)
    if os.path.lexists(path) and not inside:
      found.append(path)
  return [*found, '/dev/null', '/dev/zero', '/dev/urandom']


def _bind(root: str, path: str, fd: int) -> None:
  """Shows a path of the machine at the same place under the new root."""
  target = root + path
  os.makedirs(os.path.dirname(target), exist_ok=True)
  if os.path.islink(path):
    os.symlink(os.readlink(path), target)
    return
  if os.path.isdir(path):
    os.makedirs(target, exist_ok=True)
  else:
    open(target, 'x').close()
  _call('mount', f'/proc/self/fd/{fd}'.encode(), target.encode(), None, MS_BIND | MS_REC, None)


def enter() -> tuple[int, int]:
  """This process into namespaces of its own, and a root of its own that nobody can write to.

  Returns two open files: its PID namespace, and the kernel's account of its memory, which are not
  to be seen from within. OSError where the kernel does not allow it.
  """
  uid, gid = os.geteuid(), os.getegid()
  spaces = NEWNS | NEWUTS | NEWIPC | NEWNET | NEWPID
  _call('unshare', spaces if uid == 0 else spaces | NEWUSER)
  if uid != 0:
    for name, text in (('setgroups', 'deny'), ('uid_map', f'{NOBODY} {uid} 1'),
                       ('gid_map', f'{NOBODY} {gid} 1')):  # fmt: skip
      with open(f'/proc/self/{name}', 'w') as file:
        file.write(text)
  pid = os.fork()  # the warden itself is process 1 of a namespace, which ends with it
  if pid:
    os.waitpid(pid, 0)
    os._exit(0)
  _call('prctl', PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  home = os.open('/proc/self/ns/pid', os.O_RDONLY)
  statm = os.open('/proc/self/statm', os.O_RDONLY)
  _call('mount', b'none', b'/', None, MS_REC | MS_PRIVATE, None)
  fds = [(path, os.open(path, os.O_PATH)) for path in _sources()]  # before /tmp is covered
  links = [path for path, _ in fds if os.path.islink(path)]
  _call('mount', b'tmpfs', b'/tmp', b'tmpfs', MS_NOSUID | MS_NODEV, b'mode=755')
  # One folder down: in a chroot no process may make a user namespace, in which it would be root.
  root = '/tmp/jail'
  os.mkdir(root)
  os.mkdir(f'{root}/tmp')
  for path, fd in fds:
    if path.startswith('/tmp/') and path not in links:
      raise OSError(f'{path}: Python in /tmp cannot be shown in a sandbox: install it elsewhere')
    _bind(root, path, fd)
    os.close(fd)
  os.chdir('/tmp')
  _call('pivot_root', b'.', b'.')
  _call('umount2', b'.', 2)  # MNT_DETACH
  attributes = struct.pack('QQQQ', RDONLY | NOSUID, 0, 0, 0)
  if libc.syscall(MOUNT_SETATTR, AT_FDCWD, b'/', AT_RECURSIVE, attributes, len(attributes)) != 0:
    raise OSError(ctypes.get_errno(), 'mount_setattr: it needs Linux 5.12')
  os.chroot('/jail')
  os.chdir('/')
  _scratch(64 << 20)  # packages write to it while they are imported; a job gets its own
  return home, statm


def _scratch(size: int) -> None:
  """An empty /tmp, in memory, of at most `size` bytes."""
  options = f'mode=777,size={size},nr_inodes=256'.encode()
  _call('mount', b'tmpfs', b'/tmp', b'tmpfs', MS_NOSUID | MS_NODEV, options)
  os.chdir('/tmp')


def _no_privileges(uid: int) -> None:
  """Gives up every privilege for good, and the system calls of REFUSED."""
  if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
  _call('capset', struct.pack('Ii', 0x20080522, 0), struct.pack('6I', 0, 0, 0, 0, 0, 0))
  _call('prctl', PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
  _call('prctl', PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
  architecture, numbers = REFUSED[platform.machine()]
  load, equal, above, answer = 0x20, 0x15, 0x35, 0x06  # BPF: ld, jeq, jge, ret
  refuse, allow, kill = 0x00050000 | 1, 0x7FFF0000, 0x80000000  # errno EPERM; go on; end
  program = [(load, 0, 0, 4), (equal, 1, 0, architecture), (answer, 0, 0, kill), (load, 0, 0, 0)]
  program += [(above, len(numbers) + 1, 0, 0x40000000)]  # of x32
  program += [(equal, len(numbers) - i, 0, number) for i, number in enumerate(numbers)]
  program += [(answer, 0, 0, allow), (answer, 0, 0, refuse)]
  text = b''.join(struct.pack('HBBI', *line) for line in program)
  kept = ctypes.create_string_buffer(text, len(text))
  head = struct.pack('HxxxxxxP', len(program), ctypes.addressof(kept))
  _call('prctl', PR_SET_SECCOMP, 2, ctypes.c_char_p(head), 0, 0)


# -- a job


def _function(name: str):
  module, _, function = name.partition(':')
  return getattr(importlib.import_module(module), function)


def _limit(limits: dict, used_bytes: int) -> None:
  for kind, value in (
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_CPU, limits['cpu_seconds']),
    (resource.RLIMIT_AS, used_bytes + limits['memory_bytes']),
    (resource.RLIMIT_FSIZE, limits['file_bytes']),
    (resource.RLIMIT_NPROC, limits['processes']),
    (resource.RLIMIT_NOFILE, 64),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
  ):
    resource.setrlimit(kind, (value, value))


def _inside(function, job: dict, token: str, uid: int, used_bytes: int, ends: tuple) -> None:
  """In the child, process 1 of its namespace: locks itself in, and runs the job's function."""
  argument, limits, (result, output) = job['argument'], job['limits'], ends
  _call('unshare', NEWNS | NEWIPC)
  _scratch(limits['scratch_bytes'])
  with open('.stdin', 'w') as file:
    file.write(job['stdin'])
  os.dup2(os.open('.stdin', os.O_RDONLY), 0)
  os.unlink('.stdin')
  os.dup2(output, 1)
  os.dup2(output, 2)
  os.dup2(result, 3)
  os.closerange(4, 1 << 16)
  _limit(limits, used_bytes)
  _no_privileges(uid)
  sys.stdin = open(0, closefd=False)
  sys.stdout = io.TextIOWrapper(open(1, 'wb', closefd=False), errors='replace')
  sys.stderr = io.TextIOWrapper(open(2, 'wb', 0, closefd=False), write_through=True)
  value, message = None, ''
  try:
    value, status = function(**argument), 'ok'
    sys.stdout.flush()
  except MemoryError:
    status = 'memory'
  except BaseException as error:  # whatever a job may raise, SystemExit too
    status, message = 'error', type(error).__name__
  text = json.dumps({'token': token, 'status': status, 'value': value, 'message': message})
  data = memoryview(text.encode())
  while data:
    data = data[os.write(3, data) :]


def _watch(pid: int, pipes: dict[int, int], wall_seconds: float) -> tuple[dict, str | None]:
  """({pipe: what came from it}, why the job was ended from outside, or None).

  pipes: the most bytes that may come from each. Ends once all are closed, which the kernel does
  when process 1 of the namespace is gone.
  """
  deadline, parts = time.monotonic() + wall_seconds, {fd: bytearray() for fd in pipes}
  open_, ended = set(pipes), None
  while open_ and ended is None:
    ready, _, _ = select.select(list(open_), [], [], max(0, deadline - time.monotonic()))
    if not ready:
      ended = 'timeout'
    for fd in ready:
      chunk = os.read(fd, 65536)
      parts[fd] += chunk
      if not chunk:
        open_.remove(fd)
      elif len(parts[fd]) > pipes[fd]:
        ended = 'output'
  if ended:
    os.kill(pid, signal.SIGKILL)
  return parts, ended


def run(job: dict, home: int, statm: int, uid: int) -> dict:
  """{status, value, message, output, seconds} of a job, in a child with a namespace of its own."""
  limits, token = job['limits'], secrets.token_hex(16)
  function = _function(job['function'])
  used_bytes = int(os.pread(statm, 64, 0).split()[0]) * resource.getpagesize()
  result, result_end = os.pipe()
  output, output_end = os.pipe()
  _call('unshare', NEWPID)
  pid = os.fork()
  if pid == 0:
    try:
      _inside(function, job, token, uid, used_bytes, (result_end, output_end))
    except OSError as error:  # of the jail itself
      os.write(result_end, json.dumps({'token': token, 'jail': str(error)}).encode())
    finally:
      os._exit(0)
  _call('setns', home, NEWPID)  # the next fork's namespace is a new one again
  os.close(result_end)
  os.close(output_end)
  parts, ended = _watch(
    pid, {result: VALUE_BYTES, output: limits['output_bytes']}, limits['wall_seconds']
  )
  _, how, used = os.wait4(pid, 0)
  os.close(result)
  os.close(output)
  seconds = used.ru_utime + used.ru_stime
  said = parts[output][: limits['output_bytes']].decode(errors='replace')
  found = {'value': None, 'message': '', 'output': said, 'seconds': seconds}
  if ended:
    return found | {'status': ended}
  try:
    told = json.loads(parts[result])
    if told.pop('token') == token:
      return found | told
  except (ValueError, KeyError, TypeError, AttributeError):
    pass
  if os.WIFSIGNALED(how) and os.WTERMSIG(how) == signal.SIGKILL:
    # The kernel counts the limit in ticks, and `seconds` exactly.
    by_limit = seconds > limits['cpu_seconds'] / 2
    return found | {'status': 'timeout' if by_limit else 'memory'}
  return found | {'status': 'error', 'message': 'ended without a result'}


# -- messages


def send(fd: int, message: dict) -> None:
  data = json.dumps(message).encode()
  data = memoryview(struct.pack('>Q', len(data)) + data)
  while data:
    data = data[os.write(fd, data) :]


def receive(fd: int) -> dict | None:
  """The next message, None at the end."""
  head = _read(fd, 8)
  return None if head is None else json.loads(_read(fd, struct.unpack('>Q', head)[0]))


def _read(fd: int, count: int) -> bytes | None:
  data = bytearray()
  while len(data) < count:
    chunk = os.read(fd, min(1 << 20, count - len(data)))
    if not chunk:
      return None
    data += chunk
  return bytes(data)


def _prepare(calls: list) -> dict:
  try:
    for name, argument in calls:
      _function(name)(**argument)
  except Exception as error:  # say of a package that is not installed
    return {'failed': f'{type(error).__name__}: {error}'}
  gc.collect()
  gc.freeze()  # a fork then shares what is there
  return {'prepared': True}


def main() -> None:
  requests, answers = os.dup(0), os.dup(1)
  os.dup2(os.open(os.devnull, os.O_RDWR), 0)
  os.dup2(2, 1)  # what a module prints while it is imported
  uid = 60_000 + os.getpid() % 5_000  # of jobs, where the warden is root: they are counted by it
  for name in sys.argv[1:]:
    importlib.import_module(name)
  try:
    if platform.machine() not in REFUSED:
      raise OSError(f'a machine of kind {platform.machine()}: {" or ".join(REFUSED)} is needed')
    home, statm = enter()
  except (OSError, AttributeError) as error:
    send(answers, {'refused': str(error)})
    return
  send(answers, {'ready': True})
  while (message := receive(requests)) is not None:
    if 'prepare' in message:
      send(answers, _prepare(message['prepare']))
    else:
      send(answers, run(message, home, statm, uid))


if __name__ == '__main__':
  main()
