"""Paths and names that the documents give are there."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = ['README.md', *(f'docs/{path.name}' for path in (ROOT / 'docs').glob('*.md'))]


@pytest.mark.parametrize('name', DOCUMENTS)
def test_files_that_are_named_are_there(name):
  text = (ROOT / name).read_text()
  named = re.findall(r'`((?:scaling|analysis|tests|experiments|benchmarks|docs)/[\w/.]+)`', text)
  named += [str(Path(name).parent / link) for link in re.findall(r'\]\(([\w/.-]+\.\w+)\)', text)]
  made = {'scaling/search/fresh_vote.py'}  # that a reader is told to write
  assert [path for path in named if not (ROOT / path).exists() and path not in made] == []


def test_names_of_the_table_of_extensions_are_in_the_files_beside_them():
  lines = (ROOT / 'docs/extending.md').read_text().splitlines()
  found = 0
  for line in (line for line in lines if line.startswith('| ')):
    where, test = line.split('|')[2], line.split('|')[4]
    for names, path in re.findall(r'((?:`\w+`[^`]{0,8})+) in `([\w/]+)\.py`', where):
      module = importlib.import_module(path.replace('/', '.'))
      for name in re.findall(r'`(\w+)`', names):
        assert hasattr(module, name), (name, path)
        found += 1
    for name, path in re.findall(r'`(test_\w+)` in `([\w/.]+)`', test):
      assert f'def {name}(' in (ROOT / path).read_text()
      found += 1
  assert found >= 12
