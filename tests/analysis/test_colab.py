"""The notebook runs from top to bottom on a workdir, and shows every figure."""

from pathlib import Path

import nbformat
import synthetic
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / 'analysis/colab/read_a_study.ipynb'


def test_notebook_draws_every_figure(tmp_path, monkeypatch):
  truth = synthetic.Truth(problems=8, samples=8, updates=(10, 40))
  monkeypatch.setenv('POSTSCALE_WORKDIR', str(synthetic.write(tmp_path / 'w', truth)))
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  folder = {'metadata': {'path': str(NOTEBOOK.parent)}}
  NotebookClient(notebook, timeout=120, resources=folder).execute()
  pages = [
    output['data'].get('text/html', '')
    for cell in notebook.cells
    for output in cell.get('outputs', [])
    if 'data' in output
  ]
  for name in ('loss', 'coverage', 'rl', 'joint', 'frontier', 'splits', 'ledger'):
    assert any(f'<figure id="{name}">' in page for page in pages), name
  printed = ''.join(o.get('text', '') for c in notebook.cells for o in c.get('outputs', []))
  assert 'held-out loss falls' in printed


def test_notebook_is_kept_without_outputs():
  notebook = nbformat.read(NOTEBOOK, as_version=4)
  code = [cell for cell in notebook.cells if cell['cell_type'] == 'code']
  assert all(not cell['outputs'] and cell['execution_count'] is None for cell in code)
