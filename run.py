"""Runs a study: python run.py --config=experiments/NAME.py[:ARG] --workdir=DIR

All that a study measures goes into the workdir, its report too. Run the same command again, and
what is done is not done again; a run that was cut off goes on where it stood. A field of the config
is overridden by --config.KEY=VALUE, say --config.sft.learning_rate=1e-3; scaling/config.py says
what each field means.
--ask="12+34-5=" puts one prompt to the last model that was trained, and shows what it says.

Several hosts run one study together: the same command on each, with --multihost, and a workdir that
all of them see. SIGTERM saves and ends the run with exit code 75; the same command goes on.
"""

import difflib
import errno
import functools
import math
import os
import sys
import traceback
from pathlib import Path

from absl import app, flags, logging
from ml_collections import config_flags

from scaling.errors import BadInput, Refused

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: FILE.py or FILE.py:ARG.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where everything goes; made if it is not there.')
PLAN = flags.DEFINE_bool('plan', False, 'Print the tree of stages and what it costs; run nothing.')
ASK = flags.DEFINE_string(
  'ask', None, 'Put one prompt to the last model that the study trained: its samples and votes.'
)
COMPILE_FOR = flags.DEFINE_string(
  'compile_for',
  None,
  'Compile all programs for a TPU topology, say v5p:4x4x4, print what they need; run nothing.',
)
MULTIHOST = flags.DEFINE_bool(
  'multihost',
  False,
  'One of several processes of a run. On a TPU pod, under Slurm and under Open MPI they find each '
  'other; elsewhere give the next three flags.',
)
COORDINATOR = flags.DEFINE_string('coordinator', None, 'HOST:PORT of process 0.')
NUM_PROCESSES = flags.DEFINE_integer('num_processes', None, 'How many processes there are.')
PROCESS_ID = flags.DEFINE_integer('process_id', None, 'Which of them this is, from 0.')


def _fail(message: str, leave=sys.exit) -> None:
  for line in message.splitlines():
    print(f'run.py: {line}', file=sys.stderr)
  leave(2)


def _use_cores(mesh: dict) -> None:
  """Sees to it that there are CPU devices for the mesh."""
  from scaling import processes

  processes.use_cores(math.prod(mesh.values()) or sys.maxsize)  # 0: see config.mesh.data


def _start(mesh: dict) -> None:
  """Joins the other processes, if there are any, and listens for SIGTERM; alone, it takes the CPU
  devices of the mesh."""
  from scaling import processes

  where = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  if MULTIHOST.value:
    processes.start(*where)
  elif any(value is not None for value in where):
    raise BadInput('--coordinator, --num_processes and --process_id go with --multihost')
  else:
    _use_cores(mesh)
  processes.watch()


def _report(workdir: str, name: str) -> str:
  """Writes the report and returns what to print: its first findings, and its path."""
  from analysis import errors, report

  print('writing the report', flush=True)
  try:
    return report.closing(*report.write(workdir, name))
  except errors.BadInput as error:
    raise BadInput(f'the study ended, and there is no report: {error}') from error


def _unknown_key(argv: list[str]) -> str | None:
  """A line about the first --config.KEY that the config does not have, if that is what is wrong."""
  from scaling import config, fields

  known = {}
  for name, value in config.default().items():
    known |= {f'{name}.{k}': v for k, v in value.items()} if hasattr(value, 'items') else {name: 0}
  for word in argv:
    if word.lstrip('-').startswith('config.'):
      key = word.lstrip('-').removeprefix('config.').partition('=')[0].split('[')[0]
      if key not in known:
        return f'config has no key {key!r}; {fields.near(key, known)}'
  return None


def _path(argv: list[str]) -> str:
  """The file that --config, the last of them, names, without its argument."""
  path = ''
  for at, word in enumerate(argv):
    flag, equals, value = word.lstrip('-').partition('=')
    if flag == 'config':
      path = value if equals else ''.join(argv[at + 1 : at + 2])
  return path.partition(':')[0]


def _raised(error: Exception, path: str) -> str:
  """What an experiment file raised, in one line; beyond BadInput, with the line that raised it."""
  while 'Error whilst parsing config file' in str(error):  # flags wrap what they catch
    error = error.__context__
  words = (str(error).splitlines() or [''])[0]
  if isinstance(error, (BadInput, flags.Error)):
    return words
  if isinstance(error, AttributeError) and "'get_config'" in words:
    return f'{path} has no get_config(arg); experiments/quickstart.py shows what an experiment is'
  if 'Did you mean' in words:  # a key that the config does not have; before that it lists all
    words = words[words.index('Did you mean') :].rstrip("'")
  lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == path]
  if isinstance(error, SyntaxError):
    lines, words = [error.lineno], error.msg
  where = f'{path}, line {lines[-1]}' if lines else f'--config={path}'
  return f'{where}: {type(error).__name__}: {words}'


def parse(argv: list[str]) -> list[str]:
  """Flags, with one line and exit code 2 for those that are wrong."""
  try:
    rest = flags.FLAGS(argv)
  except Exception as error:  # of a flag, or whatever the experiment file raised
    _fail(_unknown_key(argv) or _raised(error, _path(argv)))
  if len(rest) > 1:
    flag = 'config=' if Path(rest[1].partition(':')[0]).suffix == '.py' else ''
    _fail(f'unexpected argument {rest[1]!r}; did you mean --{flag}{rest[1]}?')
  return rest


def _missing(path: str) -> str:
  """A line about an experiment that cannot be read, with those nearest in name."""
  there = sorted(Path('experiments').glob('*.py'))
  close = difflib.get_close_matches(Path(path).stem, [p.stem for p in there], n=2)
  near = ', '.join(str(p) for p in there if p.stem in close)
  return f'--config={path}: no such file; {f"nearest: {near}" if near else "see experiments/"}'


FULL = (errno.ENOSPC, errno.EDQUOT)  # a disk, and what one may have of it


def _disk_is_full(error: BaseException | None) -> bool:
  """Whether an exception, or one that led to it, says so: the system's, or a library's words."""
  while error is not None:
    words = str(error)
    if getattr(error, 'errno', None) in FULL or any(os.strerror(n) in words for n in FULL):
      return True
    error = error.__cause__ or error.__context__
  return False


def main(_):
  if CONFIG.value is None:
    path = _path(sys.argv)
    example = 'say which experiment: --config=experiments/quickstart.py'
    _fail(f'{path}: its get_config returns nothing' if path else example)
  if WORKDIR.value is None and not PLAN.value and COMPILE_FOR.value is None:
    _fail('say where it goes: --workdir=results/NAME')
  if '://' in (WORKDIR.value or ''):
    needed = 'it must be a folder, which all hosts mount, say by gcsfuse or Filestore'
    _fail(f'--workdir={WORKDIR.value}: {needed}')
  try:
    config = CONFIG.value.copy_and_resolve_references()
  except OSError as error:  # the flag puts off what went wrong when it was read
    path = _path(sys.argv)
    _fail(_raised(error.__cause__, path) if Path(path).is_file() else _missing(path))
  logging.set_verbosity(logging.WARNING)
  from scaling import checks, plan, processes, study

  try:
    if PLAN.value:
      checks.validate(config)
      _use_cores(config.mesh.to_dict())
      tree = study.expand(config)
      study.check_here(config, tree, WORKDIR.value)
      print(plan.describe(config, tree, WORKDIR.value))
      return
    if ASK.value is not None:
      from scaling import ask

      print(ask.ask(config, WORKDIR.value, ASK.value))
      return
    if COMPILE_FOR.value is not None:
      from scaling import topology

      topology.report(config, COMPILE_FOR.value)
      return
    checks.validate(config)
    _start(config.mesh.to_dict())
    study.run(config, WORKDIR.value)
    said = processes.once(lambda: _report(WORKDIR.value, config.name))
  except Refused as error:  # the report is of all else
    try:
      print(_report(WORKDIR.value, config.name))
    except BadInput as none:
      print(none)
    _fail(str(error), processes.leave)
  except BadInput as error:
    _fail(str(error), processes.leave)
  except processes.Preempted:
    print('told to stop (SIGTERM): saved; run the same command to go on', file=sys.stderr)
    processes.leave(processes.EXIT)
  except KeyboardInterrupt:
    print('\nstopped; what was measured is kept: run the same command to go on', file=sys.stderr)
    processes.leave(130, at_once=True)
  except Exception as error:
    if _disk_is_full(error):
      words = 'what was measured is kept: make room, and run the same command to go on'
      at_once = functools.partial(processes.leave, at_once=True)
      _fail(f'the disk, or a quota, is full (--workdir={WORKDIR.value}); {words}', at_once)
    traceback.print_exc()
    if MULTIHOST.value:
      words = 'where another process ended, see what it said; give all the same command to go on'
      print(f'run.py: this process of the run stops; {words}', file=sys.stderr)
    processes.leave(1)
  if processes.first():
    print(said)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
