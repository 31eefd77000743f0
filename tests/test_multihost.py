"""Several processes on loopback, and a run that is told to stop: the results of one that is not."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling import bank, checkpoint, processes, sharding, study
from scaling.data import tasks
from scaling.errors import BadInput
from scaling.stages import stage as stages
from tests import test_study, tiny

ROOT = Path(__file__).parents[1]
NO_RL = ('--config.rl.updates=()', '--config.rl.sizes=()', '--config.rl.sft_tokens=()')


def _port() -> int:
  with socket.socket() as s:
    s.bind(('localhost', 0))
    return s.getsockname()[1]


def _start(workdir, count, devices, *args, each=None, log=None):
  """Starts `count` processes of run.py with so many devices each; each: more arguments, by process.

  What they print goes into `log`0, `log`1, …
  """
  where = f'--coordinator=localhost:{_port()}'
  env = os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_NUM_CPU_DEVICES': str(devices)}
  started = []
  for i in range(count):
    many = ['--multihost', where, f'--num_processes={count}', f'--process_id={i}']
    command = [
      sys.executable, 'run.py', '--config=tests/tiny.py', f'--workdir={workdir}', *args,
      *(many if count > 1 else []), *(each[i] if each else []),
    ]  # fmt: skip
    with open(f'{log}{i}', 'w') as out:
      started.append(subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=out, env=env))
  return started


def _end(started, log, code, seconds=300):
  """Waits for them all; what each printed. They must have ended with this exit code."""
  try:
    codes = [process.wait(seconds) for process in started]
  finally:
    for process in started:
      process.kill()
  said = [Path(f'{log}{i}').read_text() for i in range(len(started))]
  assert codes == [code] * len(codes), '\n'.join(text[-3000:] for text in said)
  return said


@pytest.fixture(scope='module')
def only_data(tmp_path_factory):
  workdir = study.open_workdir(tmp_path_factory.mktemp('data') / 'w')
  spec = study.data_spec(tiny.get_config())
  folder = stages.data_folder(workdir, spec._asdict())
  folder.parent.mkdir()
  tasks.prepare(spec, folder)
  return workdir


@pytest.fixture
def prepared(tmp_path, only_data):
  """A workdir that has the tiny study's data and nothing else."""
  return shutil.copytree(only_data, tmp_path / 'w')


def _tables(workdir, stage, name):
  return pd.read_parquet(stages.folder(workdir, stage.id) / name)


def _compare(tree, one, many):
  """Every stage's curve, records and bank: those of one process within float tolerance."""
  close = dict(rtol=2e-3, atol=2e-4)
  for stage in tree:
    a, b = stages.done(one, stage.id), stages.done(many, stage.id)
    assert a['outcome'] == b['outcome'] == 'ok'
    if stage.kind != 'sample':
      curves = [_tables(w, stage, 'metrics.parquet') for w in (one, many)]
      if len(curves[0]):
        np.testing.assert_allclose(curves[0]['loss'], curves[1]['loss'], **close)
        np.testing.assert_allclose(curves[0]['grad_norm'], curves[1]['grad_norm'], rtol=0.01)
    else:
      banks = [bank.of_stage(w, stage.id) for w in (one, many)]
      assert list(banks[0]['problem']) == list(banks[1]['problem'])
      same = [np.array_equal(x, y) for x, y in zip(banks[0]['tokens'], banks[1]['tokens'])]
      assert np.mean(same) > 0.9  # draws may part at ties
    if stage.kind == 'sft':
      assert a['ledger'] == b['ledger'] and a['cell']['sft_tokens'] == b['cell']['sft_tokens']
    if stage.recipe.get('measure'):
      rows = [_tables(w, stage, 'records.parquet') for w in (one, many)]
      np.testing.assert_allclose(rows[0]['value'], rows[1]['value'], **close)


def test_two_processes_train_and_sample_as_one(prepared, tiny_workdir, tmp_path):
  log = tmp_path / 'log'
  said = _end(_start(prepared, 2, 1, '--config.mesh.data=2', *NO_RL, log=log), log, 0)
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  _compare(study.expand(c), tiny_workdir, prepared)
  assert 'The report: ' in said[0] and (prepared / 'report-tiny.html').exists()
  alone = [line for line in said[1].splitlines() if not line.startswith('[Gloo]')]
  assert alone == []  # process 0 alone prints


def test_processes_with_different_configs_are_told_so(prepared, tmp_path):
  log, each = tmp_path / 'log', [['--config.sft.rows=8'], ['--config.sft.rows=16']]
  said = _end(_start(prepared, 2, 1, '--config.mesh.data=2', *NO_RL, each=each, log=log), log, 2)
  for text in said:
    assert 'run.py: process 1 and process 0: not the same config' in text


def test_where_no_cluster_is_found_a_line_says_what_to_give(tmp_path):
  done = subprocess.run(
    [sys.executable, 'run.py', '--config=tests/tiny.py', f'--workdir={tmp_path}', '--multihost'],
    cwd=ROOT, capture_output=True, text=True, env=os.environ | {'JAX_PLATFORMS': 'cpu'},
  )  # fmt: skip
  assert done.returncode == 2 and done.stderr.count('\n') == 1
  assert 'no cluster was found; give --coordinator=HOST:PORT' in done.stderr


@pytest.mark.parametrize(
  'where, says',
  [
    (('here:1', None, None), 'give all of --coordinator=HOST:PORT --num_processes=N'),
    ((None, 2, 0), 'give all of --coordinator=HOST:PORT --num_processes=N'),
    (('here', 2, 0), '--coordinator=here: it must be HOST:PORT'),
    (('here:1', 2, 2), '--process_id=2: it must be in 0 … 1'),
  ],
)
def test_flags_that_do_not_fit_are_refused(where, says):
  with pytest.raises(BadInput, match=re.escape(says)):
    processes.start(*where)


@pytest.mark.parametrize('shape', [{}, {'data': 8}, {'data': 2, 'tensor': 2, 'sequence': 2}])
def test_what_is_fed_is_what_was_given(shape):
  mesh = sharding.make_mesh(**shape)
  whole = {'tokens': np.arange(8 * 4).reshape(8, 4).astype(np.int32)}
  here, where = sharding.rows_here(mesh, 8), sharding.batch(mesh)
  assert list(here) == list(range(8))
  fed = sharding.feed(where, 8, {'tokens': whole['tokens'][here]})
  for got in (fed, sharding.spread(where, whole)):
    np.testing.assert_array_equal(got['tokens'], whole['tokens'])
    assert got['tokens'].sharding == where


def test_a_checkpoint_is_due_by_the_clock_and_the_clock_is_not_asked_at_every_step(monkeypatch):
  now, asked = [0.0], []
  monkeypatch.setattr(stages.time, 'monotonic', lambda: now[0])
  monkeypatch.setattr(processes, 'once', lambda work: asked.append(now[0]) or work())
  due, saved = stages._every(30.0), []
  for _ in range(10_000):
    now[0] += 0.01
    if due():
      saved.append(now[0])
  gaps = np.diff([0.0, *saved])
  assert len(saved) == 3 and (gaps > 30).all() and (gaps < 30.1).all()
  assert len(asked) < 100
  always = stages._every(1e-9)
  assert all([always() for _ in range(5) if not now.__setitem__(0, now[0] + 1)])


def test_told_to_stop_and_started_again_is_bit_for_bit_the_uninterrupted_run(
  prepared, tiny_workdir, monkeypatch
):
  """A SIGTERM at every seventh place where one is looked for: between stages and within them."""
  ask, count, stops = processes.preempted, [0], 0

  def preempted():
    count[0] += 1
    if count[0] % 7 == 0:
      os.kill(os.getpid(), signal.SIGTERM)
    return ask()

  monkeypatch.setattr(processes, 'preempted', preempted)
  usual = signal.getsignal(signal.SIGTERM)
  try:
    while True:
      monkeypatch.setattr(processes, '_noticed', [False])
      processes.watch()
      try:
        study.run(tiny.get_config(), prepared)
        break
      except processes.Preempted:
        stops += 1
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one would kill
  finally:
    signal.signal(signal.SIGTERM, usual)
  assert stops >= 4
  for stage in study.expand(tiny.get_config()):
    test_study._same(test_study._result(tiny_workdir, stage), test_study._result(prepared, stage))


@pytest.mark.slow
def test_four_processes_do_the_whole_study_as_one(prepared, tmp_path):
  """SFT, RL and banks on 4 x 2 devices against 1 x 8, on the same mesh of three axes."""
  log, c = tmp_path / 'log', tiny.get_config()
  c.mesh.data, c.mesh.fsdp, c.mesh.tensor, c.sample.block_prompts = 2, 2, 2, 4
  c.rl.minibatches = 1  # of 4 prompts, which 4 shards split
  args = ['--config.mesh.data=2', '--config.mesh.fsdp=2', '--config.mesh.tensor=2']
  args += ['--config.sample.block_prompts=4', '--config.rl.minibatches=1']
  one = study.open_workdir(tmp_path / 'one')
  shutil.copytree(prepared / 'data', one / 'data')
  _end(_start(prepared, 4, 2, *args, log=log), log, 0, 600)
  study.run(c, one)
  tree = study.expand(c)
  assert {s.kind for s in tree} == {'pretrain', 'sft', 'rl', 'sample'}
  _compare(tree, one, prepared)
  curves = [
    _tables(w, s, 'metrics.parquet') for s in tree if s.kind == 'rl' for w in (one, prepared)
  ]
  for a, b in zip(curves[::2], curves[1::2]):
    for name in ('reward', 'response_length'):
      np.testing.assert_allclose(a[name], b[name], atol=0.1 * a[name].abs().max())


@pytest.mark.slow
def test_two_processes_told_to_stop_go_on_as_one_on_another_mesh(prepared, tmp_path):
  """SIGTERM to process 1 of 2 x 4 devices, in the middle of SFT; then 1 x 8, another mesh."""
  log, c = tmp_path / 'log', tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.sft.tokens, c.sample.block_prompts = (128_000,), 4
  c.sft.learning_rate = 1e-4  # so that rounding does not grow over hundreds of steps
  args = [*NO_RL, '--config.sft.tokens=(128000,)', '--config.sample.block_prompts=4']
  args += ['--config.sft.learning_rate=1e-4', '--config.checkpoint_seconds=1']
  trunk = next(s for s in study.expand(c) if s.kind == 'sft')
  where = stages.folder(prepared, trunk.id) / 'checkpoints'
  started = _start(prepared, 2, 4, '--config.mesh.data=4', '--config.mesh.tensor=2', *args, log=log)
  deadline = time.monotonic() + 240
  while checkpoint._newest(where) is None:
    assert time.monotonic() < deadline and started[0].poll() is None
    time.sleep(0.1)
  started[1].send_signal(signal.SIGTERM)
  said = _end(started, log, processes.EXIT)
  for text in said:
    assert 'told to stop (SIGTERM): saved; run the same command to go on' in text
  stopped = checkpoint._newest(where)
  curve = _tables(prepared, trunk, 'metrics.parquet')
  assert 0 < stopped < trunk.recipe['stop'] and len(curve) == stopped
  other = ['--config.mesh.data=2', '--config.mesh.fsdp=2', '--config.mesh.tensor=2']
  _end(_start(prepared, 1, 8, *other, *args, log=log), log, 0)
  one = study.open_workdir(tmp_path / 'one')
  shutil.copytree(prepared / 'data', one / 'data')
  study.run(c, one)
  _compare(study.expand(c), one, prepared)
