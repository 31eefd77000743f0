"""Every experiment's plan builds, and its docstring starts with the command that runs it."""

import importlib
from pathlib import Path

import pytest

from scaling import checks, sharding, study
from scaling.errors import BadInput

EXPERIMENTS = sorted(p.stem for p in (Path(__file__).parents[1] / 'experiments').glob('[a-z]*.py'))


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_plan_builds(name):
  module = importlib.import_module(f'experiments.{name}')
  assert f'python run.py --config=experiments/{name}.py' in module.__doc__
  for arg in ('', 'smoke'):
    tree = study.expand(module.get_config(arg))
    assert tree and len({s.id for s in tree}) == len(tree)
    assert all(s.parent is None or any(p.id == s.parent for p in tree) for s in tree)
  assert len(study.expand(module.get_config('smoke'))) <= len(study.expand(module.get_config('')))


def test_no_two_studies_have_one_name():
  modules = [importlib.import_module(f'experiments.{name}') for name in EXPERIMENTS]
  names = [module.get_config(arg).name for module in modules for arg in ('', 'smoke')]
  assert len(set(names)) == len(names) == 2 * sum(name.endswith('_smoke') for name in names)


@pytest.mark.parametrize('devices', [1, 2, 4, 8])
@pytest.mark.parametrize('name', [name for name in EXPERIMENTS if name != 'pod'])  # a slice's own
def test_its_rows_split_over_the_devices_that_it_takes_by_default(name, devices):
  c = importlib.import_module(f'experiments.{name}').get_config()
  study.check_mesh(c, study.expand(c), sharding.make_mesh(**checks.axes(c, devices)))


@pytest.mark.parametrize('name', [name for name in EXPERIMENTS if name != 'gsm8k_sft'])  # a path
def test_a_misspelt_variant_is_refused_in_the_words_of_its_own_file(name):
  with pytest.raises(BadInput, match=f'experiments/{name}.py.*smok'):
    importlib.import_module(f'experiments.{name}').get_config('smok')
