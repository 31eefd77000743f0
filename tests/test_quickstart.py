"""The first command a stranger types, at its smallest: study, report and notebook for real."""

import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

import analysis

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_smoke_from_the_door_to_the_report_and_the_notebook(tmp_path):
  workdir = tmp_path / 'smoke'
  command = [
    *(sys.executable, 'run.py', '--config=experiments/quickstart.py:smoke'),
    *(f'--workdir={workdir}', '--config.mesh.data=2'),
  ]
  env = os.environ | {'JAX_PLATFORMS': 'cpu'}
  if len(os.sched_getaffinity(0)) < 2:
    env |= {'JAX_NUM_CPU_DEVICES': '2'}
  first = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
  assert first.returncode == 0, first.stderr[-3000:]
  assert first.stdout.count('\n- ') == 3 and f'The report: {workdir}' in first.stdout
  page = (workdir / 'report-quickstart_smoke.html').read_text()
  assert '</html>' in page and 'held-out loss' in page and 'a smoke variant' in page

  records = analysis.load(workdir)
  assert set(records['metric']) >= {'loss', 'accuracy', 'parse_rate', 'truncation_rate'}
  assert set(records['device']) == {'cpu x 2'}  # a core for each
  assert set(records.loc[records['rl_updates'] > 0, 'rl_updates']) == {2, 4}
  samples = analysis.load_bank(workdir)
  assert len(samples) == 16 * 32 * samples['stage'].nunique()

  again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
  assert again.returncode == 0 and '[1/' not in again.stdout  # nothing is run twice

  notebook = nbformat.read(ROOT / 'analysis/colab/read_a_study.ipynb', as_version=4)
  os.environ['POSTSCALE_WORKDIR'] = str(workdir)
  try:
    NotebookClient(notebook, timeout=300, resources={'metadata': {'path': str(ROOT)}}).execute()
  finally:
    del os.environ['POSTSCALE_WORKDIR']
