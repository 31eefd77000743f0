"""The door: what a user sees when the command is wrong, and what --plan and --help print."""

import errno
import functools

import pytest

import run
from tests import door as door_of


@pytest.fixture
def door(tmp_path):
  return functools.partial(door_of.command, tmp_path)


@pytest.mark.parametrize(
  'args, says',
  [
    (['--config.sft.tokenz=(1,)'], "no key 'sft.tokenz'; nearest: sft.tokens"),
    (['--config.sft.rows=many'], 'config.sft.rows'),
    (["--config.model.sizes=('9k',)"], "unknown preset '9k'"),
    (['--config=experiments/quikstart.py'], 'no such file; nearest: experiments/quickstart.py'),
    (['--workdirs=x'], "'workdirs'"),
    (['--workdir=gs://bucket/x'], 'must be a folder, which all hosts mount, say by gcsfuse'),
    (['workdir'], 'did you mean --workdir'),
    (['--config.mechanics.attention=cudnn'], "a kernel for GPUs: on a cpu choose 'auto' or"),
    (['experiments/dpo.py:smoke'], 'did you mean --config=experiments/dpo.py:smoke'),
  ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(args, says, door):
  done = door('--config=tests/tiny.py', '--plan', *args)
  assert done.returncode == 2
  assert says in done.stderr and done.stderr.startswith('run.py: '), done.stderr
  assert done.stderr.count('\n') == 1


def test_each_line_of_a_message_says_who_speaks(capsys):
  codes = []
  run._fail('bank 1: all are right\nbank 2: all are wrong', codes.append)
  said = 'run.py: bank 1: all are right\nrun.py: bank 2: all are wrong\n'
  assert capsys.readouterr().err == said and codes == [2]


@pytest.mark.parametrize(
  'text, says',
  [
    ('c.sft.tokns = (1,)', 'mine.py, line 6: AttributeError: Did you mean "tokens" instead of'),
    ('c.sft.tokens = 5', 'mine.py, line 6: TypeError: '),
    ('open("/no/such")', 'mine.py, line 6: FileNotFoundError: [Errno 2] No such file'),
    ('c.name = int("x")', 'mine.py, line 6: ValueError: invalid literal'),
    ('return 1 +', 'mine.py, line 6: SyntaxError: invalid syntax'),
    ('return None', 'mine.py: its get_config returns nothing'),
  ],
)
def test_a_mistake_in_an_experiment_file_is_one_line_with_its_place(text, says, tmp_path, door):
  path = tmp_path / 'mine.py'
  path.write_text(f"""from scaling import config


def get_config(arg=''):
  c = config.default()
  {text}
  return c
""")
  done = door(f'--config={path}', '--plan')
  assert done.returncode == 2
  (line,) = [line for line in done.stderr.splitlines() if line.startswith('run.py: ')]
  assert 'Traceback' not in done.stderr
  assert says in line


def test_a_mesh_that_is_none_is_one_line_before_devices_are_asked_for(tmp_path, door):
  path = tmp_path / 'mine.py'
  path.write_text("""from tests import tiny


def get_config(arg=''):
  c = tiny.get_config(arg)
  c.mesh.tensor = None
  return c
""")
  done = door(f'--config={path}', f'--workdir={tmp_path / "w"}')
  assert done.returncode == 2
  assert done.stderr.splitlines()[-1].startswith('run.py: config.mesh.tensor is None')


def test_a_study_of_which_a_stage_was_refused_has_its_report_all_the_same(tmp_path, door):
  path = tmp_path / 'mine.py'
  path.write_text("""from analysis import report
from scaling import errors, study
from tests import tiny


def refuse(c, workdir):
  raise errors.Refused('bank 1: all are right')


study.run, report.write, report.closing = refuse, lambda *of: of, '{} of {}: a report'.format


def get_config(arg=''):
  return tiny.get_config(arg)
""")
  done = door(f'--config={path}', f'--workdir={tmp_path / "w"}')
  assert (done.returncode, done.stderr) == (2, 'run.py: bank 1: all are right\n')
  assert done.stdout.endswith(f'{tmp_path / "w"} of tiny: a report\n')


def test_plan_prints_the_tree_and_runs_nothing(tmp_path, door):
  done = door('--config=tests/tiny.py', '--plan', f'--workdir={tmp_path / "w"}')
  assert done.returncode == 0, done.stderr
  for part in ('pretrain 4 steps', 'grpo 3 updates', 'saved', 'accuracy ± 49 points', ' here ('):
    assert part in done.stdout
  assert not (tmp_path / 'w').exists()


def test_help_says_how_to_start(door):
  assert 'python run.py --config=experiments/' in door('--help').stdout


def test_a_full_disk_is_known_in_the_words_of_a_library_too():
  try:
    try:
      raise ValueError('RESOURCE_EXHAUSTED: Failed writing: "w/0": No space left on device')
    except ValueError as cause:
      raise RuntimeError('a save failed') from cause
  except RuntimeError as error:
    assert run._disk_is_full(error)
  assert run._disk_is_full(OSError(errno.ENOSPC, 'full'))
  assert run._disk_is_full(OSError(errno.EDQUOT, 'over quota'))
  assert run._disk_is_full(RuntimeError('UNKNOWN: w/0: Disk quota exceeded'))
  assert not run._disk_is_full(OSError(errno.EACCES, 'No permission'))
