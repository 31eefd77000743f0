"""Runs a study: python run.py --config=experiments/NAME.py[:ARG] --workdir=DIR

All that a study measures goes into the workdir, its report too. Run the same command again, and
what is done is not done again; a run that was cut off goes on where it stood. A field of the config
is overridden by --config.KEY=VALUE, say --config.sft.tokens="(1e5,1e6)"; scaling/config.py says
what each field means.
"""

import errno
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from scaling.errors import BadInput

CONFIG = config_flags.DEFINE_config_file('config', None, 'The experiment: FILE.py or FILE.py:ARG.')
WORKDIR = flags.DEFINE_string('workdir', None, 'Where everything goes; made if it is not there.')
PLAN = flags.DEFINE_bool('plan', False, 'Print the tree of stages and what it costs; run nothing.')


def _fail(message: str) -> None:
  print(f'run.py: {message}', file=sys.stderr)
  sys.exit(2)


def _unknown_key(argv: list[str]) -> str | None:
  """A line about the first --config.KEY that the config does not have, if that is what is wrong."""
  from scaling import config

  known = {}
  for name, value in config.default().items():
    known |= {f'{name}.{k}': v for k, v in value.items()} if hasattr(value, 'items') else {name: 0}
  for word in argv:
    if word.lstrip('-').startswith('config.'):
      key = word.lstrip('-').removeprefix('config.').partition('=')[0].split('[')[0]
      if key not in known:
        return f'config has no key {key!r}; {config.near(key, known)}'
  return None


def parse(argv: list[str]) -> list[str]:
  """Flags, with one line and exit code 2 for those that are wrong."""
  try:
    rest = flags.FLAGS(argv)
  except flags.Error as error:
    _fail(_unknown_key(argv) or str(error).splitlines()[0])
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
  if WORKDIR.value is None and not PLAN.value:
    _fail('say where it goes: --workdir=results/NAME')
  try:
    config = CONFIG.value.copy_and_resolve_references()
  except OSError as error:  # the flag puts off what went wrong when it was read
    _fail(f'--config: {str(error).splitlines()[-1].strip()}; experiments are in experiments/')
  logging.set_verbosity(logging.WARNING)
  from scaling import plan, study

  try:
    if PLAN.value:
      print(plan.describe(config, study.expand(config), WORKDIR.value))
      return
    study.run(config, WORKDIR.value)
    from analysis import errors, report

    try:
      path, findings = report.write(WORKDIR.value, config.name)
    except errors.BadInput as error:
      _fail(f'the study ended, and there is no report: {error}')
  except BadInput as error:
    _fail(str(error))
  except OSError as error:
    if error.errno != errno.ENOSPC:
      raise
    _fail(f'the disk is full ({error.filename}); what was measured is kept: make room and go on')
  except KeyboardInterrupt:
    print('\nstopped; what was measured is kept: run the same command to go on', file=sys.stderr)
    sys.exit(130)
  print('\n'.join(f'- {finding}' for finding in findings))
  print(f'\nThe report: {path}')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
