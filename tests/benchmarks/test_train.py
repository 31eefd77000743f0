"""The training benchmark, at its smallest, writes the form that every benchmark has."""

import json
import os
import signal

import pytest

from benchmarks import harness, train
from scaling.model import transformer


def test_the_file_has_the_form(tmp_path, capsys):
  out = tmp_path / 'deep' / 'train.json'
  train.main([f'--out={out}', '--work=tiny', '--tools=', '--repeats=2', '--seconds=0.05'])
  found = json.loads(out.read_text())
  assert set(found) == {'machine', 'rows', 'skipped'} and found['skipped'] == {}
  assert found['machine']['environment']['postscale'] and found['machine']['versions']['jax']
  assert [(r['tool'], r['work'], r['metric']) for r in found['rows']] == [
    ('postscale', 'tiny', metric)
    for metric in ('tokens_per_second', 'mfu', 'peak_memory', 'first_step_seconds')
  ]
  for row in found['rows']:
    assert set(row) == {'tool', 'work', 'metric', 'median', 'min', 'max', 'n'}
    assert 0 < row['min'] <= row['median'] <= row['max']
  assert found['rows'][0]['n'] == 2
  loss = found['machine']['losses']['postscale']  # from ln 256 = 5.5, by as many steps as fit
  assert 0 < loss < 6
  assert 'tokens_per_second' in capsys.readouterr().out


def test_the_reference_is_the_model_that_others_measure():
  work = train.works()['reference']
  cfg = transformer.ModelConfig(**work.model)
  matrices = 6 * (4 * 256 * 256 + 3 * 256 * 704) + 256 * 256
  assert train.compute.parameters(cfg).total == matrices + 256 * 256 + 13 * 256  # 4.95 million
  context = 257 / 2  # keys that a token sees, on average
  assert train.flops_per_token(work) == 6 * matrices + 12 * 6 * 256 * context


def test_a_row_is_the_median_with_its_spread():
  assert harness.row('a', 'b', 'c', [3, 1, 2, 10]) == {
    **{'tool': 'a', 'work': 'b', 'metric': 'c'},
    **{'median': 2.5, 'min': 1.0, 'max': 10.0, 'n': 4},
  }


def test_the_table_has_ratios_to_the_base_and_what_was_skipped():
  rows = [harness.row('ours', 'w', 'speed', [4]), harness.row('theirs', 'w', 'speed', [2])]
  text = harness.table(rows, {'other': 'other is not installed'}, base='ours')
  assert '0.50' in text and 'skipped other: other is not installed' in text


PLAYER = """
import sys
from benchmarks import harness
def setup():
  if sys.argv[1] == 'missing':
    import no_such_module
  print('noise on stdout, which is no answer')
  return lambda times: {'said': sys.argv[1] * times} if times else sys.exit('cannot')
harness.serve(setup)
"""


@pytest.fixture
def start(tmp_path):
  (tmp_path / 'player.py').write_text(PLAYER)
  path = f'{tmp_path}:{harness.ROOT}'
  return lambda tool: harness.start(tool, 'player', [], {'PYTHONPATH': path})


def test_workers_take_turns_and_answer_for_themselves(start):
  workers = [start('a'), start('b')]
  answers = harness.turns(workers, 2, lambda worker: {'times': 2})
  assert [a['said'] for a in answers] == ['aa', 'bb', 'bb', 'aa']  # every other round in reverse
  for worker in workers:
    harness.stop(worker)
    assert worker.process.returncode == 0


def test_a_tool_that_is_not_installed_says_so_and_a_dead_one_shows_its_log(start):
  missing, dead = start('missing'), start('a')
  assert harness.ask(missing, times=1) == {'skipped': 'no_such_module is not installed'}
  harness.stop(missing)
  with pytest.raises(RuntimeError, match=r'a died:\n(.|\n)*cannot'):
    harness.ask(dead, times=0)


def test_told_to_stop_twice_it_reports_what_was_measured(start, monkeypatch):
  """As `timeout` does, which signals its child and then the child's group."""
  before = signal.getsignal(signal.SIGTERM)
  stop = lambda: os.kill(os.getpid(), signal.SIGTERM)
  monkeypatch.setattr(harness, 'say', lambda line: stop() if line == 'interrupted' else None)
  begin = lambda tool: start(tool) if tool == 'a' else stop()
  warm = lambda worker: (harness.ask(worker, times=1), {'times': 2})
  try:
    first, answers, skipped = harness.compare('abc', begin, warm, 2, together=False)
  finally:
    signal.signal(signal.SIGTERM, before)
  assert first == {'a': {'said': 'a'}}
  assert [a['said'] for a in answers] == ['aa', 'aa']
  assert skipped == {'b': 'interrupted', 'c': 'interrupted'}
