"""The notebooks run from top to bottom, hold no outputs, and say what the code behind them says."""

import ast
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import synthetic
from nbclient import NotebookClient

from analysis import columns, fit, plan_words, planning

FOLDER = Path(__file__).parents[2] / 'analysis/colab'
NOTEBOOKS = sorted(path.name for path in FOLDER.glob('*.ipynb'))
COLUMNS = {'N': 'params', 'D': 'tokens', 'L': 'loss'}


def execute(name, folder):
  """What the notebook prints, and the pages that it shows; `folder` is where it runs."""
  notebook = nbformat.read(FOLDER / name, as_version=4)
  NotebookClient(notebook, timeout=120, resources={'metadata': {'path': str(folder)}}).execute()
  outputs = [output for cell in notebook.cells for output in cell.get('outputs', [])]
  pages = [output['data'].get('text/html', '') for output in outputs if 'data' in output]
  return ''.join(output.get('text', '') for output in outputs), pages


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  truth = synthetic.Truth(problems=8, samples=8, updates=(10, 40))
  return synthetic.write(tmp_path_factory.mktemp('study') / 'w', truth)


def test_read_a_study_draws_every_figure(workdir, monkeypatch):
  monkeypatch.setenv('POSTSCALE_WORKDIR', str(workdir))
  printed, pages = execute('read_a_study.ipynb', FOLDER)
  for name in ('loss', 'coverage', 'rl', 'joint', 'residuals', 'frontier', 'splits', 'ledger'):
    assert any(f'<figure id="{name}">' in page for page in pages), name
  assert 'held-out loss falls' in printed


@pytest.fixture
def beside(tmp_path):
  """A folder within reach of the repository, as a notebook looks for it in its parents."""
  (tmp_path / 'analysis').symlink_to(FOLDER.parent)
  (tmp_path / 'run').mkdir()
  return tmp_path / 'run'


def test_first_law_from_a_csv(beside):
  printed, pages = execute('first_law_from_a_csv.ipynb', beside)
  assert any('<figure id="fit_chinchilla">' in page for page in pages)
  table = columns.read_table(str(FOLDER / 'example_runs.csv'))
  found = fit.fit('chinchilla', table, COLUMNS, bootstrap=0)
  kept = fit.read(beside / 'fit.json')
  assert kept.params == pytest.approx(found.params) and len(kept.samples) == 200
  assert abs(found.params['alpha'] - 0.3478) < 0.05 and abs(found.params['beta'] - 0.3658) < 0.05
  assert 'kaplan' in printed and 'chinchilla' in printed


@pytest.mark.slow
def test_plan_a_run(beside, workdir, monkeypatch):
  monkeypatch.setenv('POSTSCALE_WORKDIR', str(workdir))
  printed, pages = execute('plan_a_run.ipynb', beside)
  assert any('<figure id="plan">' in page for page in pages)
  table = columns.read_table(str(FOLDER / 'example_runs.csv'))
  found = fit.fit('chinchilla', table, COLUMNS, bootstrap=0)
  problem = planning.of_fit(found, found.ranges, 1e9, 512, 256)
  choice = planning.for_target(problem, 2.3)
  assert any(plan_words.human(choice.split['N']) in page for page in pages)
  assert '10× training tokens ≈' in printed and 'by the law of majority@k' in printed


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_are_kept_without_outputs(name):
  notebook = nbformat.read(FOLDER / name, as_version=4)
  code = [cell for cell in notebook.cells if cell['cell_type'] == 'code']
  assert all(not cell['outputs'] and cell['execution_count'] is None for cell in code)
  assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize('name', NOTEBOOKS)
def test_notebooks_hold_no_logic(name):
  """No function, class or loop over data of their own: what they do is in analysis/."""
  notebook = nbformat.read(FOLDER / name, as_version=4)
  code = '\n'.join(cell['source'] for cell in notebook.cells if cell['cell_type'] == 'code')
  assert not any(word in code for word in ('def ', 'class ', 'lambda', 'while '))


def test_what_notebooks_install_is_what_analysis_imports():
  root = FOLDER.parents[1]
  lines = (root / 'requirements-analysis.txt').read_text().splitlines()
  listed = {line.partition('>=')[0] for line in lines if not line.startswith('#')}
  trees = [ast.walk(ast.parse(path.read_text())) for path in FOLDER.parent.glob('*.py')]
  nodes = [node for tree in trees for node in tree]
  imported = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
  imported |= {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
  outside = {name.split('.')[0] for name in imported} - sys.stdlib_module_names
  assert outside - {'analysis', 'scaling'} == listed - {'pyarrow'}  # pandas reads Parquet by it
  for name in NOTEBOOKS:
    assert 'requirements-analysis.txt' in (FOLDER / name).read_text()


def test_every_folder_of_the_packages_is_one():
  """`pip install .` takes folders with an __init__.py, of analysis and scaling."""
  root = FOLDER.parents[1]
  for folder in {path.parent for path in (root / 'scaling').rglob('*.py')} | {FOLDER.parent}:
    assert (folder / '__init__.py').exists(), folder
  project = tomllib.loads((root / 'pyproject.toml').read_text())
  assert project['tool']['setuptools']['packages']['find']['include'] == ['analysis', 'scaling*']
