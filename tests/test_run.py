"""The door: what a user sees when the command is wrong, and what --plan and --help print."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def _run(*args):
  return subprocess.run(
    [sys.executable, 'run.py', *args], cwd=ROOT, capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip


@pytest.mark.parametrize(
  'args, says',
  [
    (['--config.sft.tokenz=(1,)'], "no key 'sft.tokenz'; nearest: sft.tokens"),
    (['--config.sft.rows=many'], 'config.sft.rows'),
    (["--config.model.sizes=('9k',)"], "unknown preset '9k'"),
    (['--config=experiments/nothing.py'], 'experiments/nothing.py'),
    (['--workdirs=x'], "'workdirs'"),
    (['workdir'], 'did you mean --workdir'),
  ],
)
def test_a_wrong_command_is_one_line_and_exit_code_2(args, says):
  done = _run('--config=tests/tiny.py', '--plan', *args)
  assert done.returncode == 2
  assert says in done.stderr and done.stderr.startswith('run.py: '), done.stderr
  assert done.stderr.count('\n') == 1


def test_plan_prints_the_tree_and_runs_nothing(tmp_path):
  done = _run('--config=tests/tiny.py', '--plan', f'--workdir={tmp_path / "w"}')
  assert done.returncode == 0, done.stderr
  for part in ('pretrain 4 steps', 'grpo 3 updates', 'saved', 'stderr of an accuracy', 'minutes'):
    assert part in done.stdout
  assert not (tmp_path / 'w').exists()


def test_help_says_how_to_start():
  assert 'python run.py --config=experiments/' in _run('--help').stdout
