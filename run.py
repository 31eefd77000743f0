"""Runs a study: python run.py --config=experiments/NAME.py[:ARG] --workdir=DIR

All that a study measures goes into the workdir, its report too. Run the same command again, and
what is done is not done again; a run that was cut off goes on where it stood. A field of the config
is overridden by --config.KEY=VALUE, say --config.sft.tokens="(1e5,1e6)"; scaling/config.py says
what each field means.
--ask="12+34-5=" puts one prompt to the last model that was trained, and shows what it says.

Several hosts run one study together: the same command on each, with --multihost, and a workdir that
all of them see. SIGTERM saves and ends the run with exit code 75; the same command goes on.
"""

import errno
import sys
import traceback

from absl import app, flags, logging
from ml_collections import config_flags

from scaling.errors import BadInput

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
  print(f'run.py: {message}', file=sys.stderr)
  leave(2)


def _start() -> None:
  """Joins the other processes, if there are any, and listens for SIGTERM."""
  from scaling import processes

  where = (COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value)
  if MULTIHOST.value:
    processes.start(*where)
  elif any(value is not None for value in where):
    raise BadInput('--coordinator, --num_processes and --process_id go with --multihost')
  processes.watch()


def _report(workdir: str, name: str) -> tuple[str, list[str]]:
  """Writes the report and returns (its path, its findings)."""
  from analysis import errors, report

  try:
    path, findings = report.write(workdir, name)
  except errors.BadInput as error:
    raise BadInput(f'the study ended, and there is no report: {error}') from error
  return str(path), findings


def _unknown_key(argv: list[str]) -> str | None:
  """A line about the first --config.KEY that the config does not have, if that is what is wrong."""
  from scaling import checks, config

  known = {}
  for name, value in config.default().items():
    known |= {f'{name}.{k}': v for k, v in value.items()} if hasattr(value, 'items') else {name: 0}
  for word in argv:
    if word.lstrip('-').startswith('config.'):
      key = word.lstrip('-').removeprefix('config.').partition('=')[0].split('[')[0]
      if key not in known:
        return f'config has no key {key!r}; {checks.near(key, known)}'
  return None


def parse(argv: list[str]) -> list[str]:
  """Flags, with one line and exit code 2 for those that are wrong."""
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    lines = str(error).strip().splitlines()  # the last of a traceback, where a file raised it
    raised = 'Error whilst parsing config file' in lines[0]
    line = f'--config: {lines[-1].partition(": ")[2]}' if raised else lines[0]
    _fail(_unknown_key(argv) or line)
  except (
    AttributeError,
    KeyError,
    TypeError,
    ValueError,
  ) as error:  # raised by the experiment file
    _fail(_unknown_key(argv) or f'--config: {str(error).splitlines()[0]}')
  if len(rest) > 1:
    _fail(f'unexpected argument {rest[1]!r}; did you mean --{rest[1]}?')
  return rest


def main(_):
  if CONFIG.value is None:
    _fail('say which experiment: --config=experiments/quickstart.py')
  if WORKDIR.value is None and not PLAN.value and COMPILE_FOR.value is None:
    _fail('say where it goes: --workdir=results/NAME')
  try:
    config = CONFIG.value.copy_and_resolve_references()
  except OSError as error:  # the flag puts off what went wrong when it was read
    _fail(f'--config: {str(error).splitlines()[-1].strip()}; experiments are in experiments/')
  logging.set_verbosity(logging.WARNING)
  from scaling import plan, processes, study

  try:
    if PLAN.value:
      print(plan.describe(config, study.expand(config), WORKDIR.value))
      return
    if ASK.value is not None:
      from scaling import ask

      print(ask.ask(config, WORKDIR.value, ASK.value))
      return
    if COMPILE_FOR.value is not None:
      from scaling import topology

      topology.report(config, COMPILE_FOR.value)
      return
    _start()
    study.run(config, WORKDIR.value)
    path, findings = processes.once(lambda: _report(WORKDIR.value, config.name))
  except BadInput as error:
    _fail(str(error), processes.leave)
  except processes.Preempted:
    print('told to stop (SIGTERM): saved; run the same command to go on', file=sys.stderr)
    processes.leave(processes.EXIT)
  except KeyboardInterrupt:
    print('\nstopped; what was measured is kept: run the same command to go on', file=sys.stderr)
    processes.leave(130)
  except Exception as error:
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
      words = 'what was measured is kept: make room and go on'
      _fail(f'the disk is full ({error.filename}); {words}', processes.leave)
    traceback.print_exc()
    if MULTIHOST.value:
      words = 'where another process ended, see what it said; give all the same command to go on'
      print(f'run.py: this process of the run stops; {words}', file=sys.stderr)
    processes.leave(1)
  if processes.first():
    print('\n'.join(f'- {finding}' for finding in findings))
    print(f'\nThe report: {path}')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
