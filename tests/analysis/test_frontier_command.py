"""`python -m analysis.frontier`: a table and a picture of a study or a fit; errors in one line."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic

from analysis import fit, frontier_command, frontier_words, plan_words, planning
from analysis.errors import BadInput

ROOT = Path(__file__).parents[2]
E, A, ALPHA, B, BETA = 1.8, 480.0, 0.35, 2100.0, 0.37


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A study, a table of losses and its fit, a table of over-training and its fit."""
  folder = tmp_path_factory.mktemp('frontier')
  truth = synthetic.Truth(problems=12, samples=16, budgets=(1e5, 4e5, 1.6e6), updates=(10,))
  synthetic.write(folder / 'study', truth)
  rng = np.random.default_rng(0)
  N, D = (x.ravel() for x in np.meshgrid(np.geomspace(1e8, 1e10, 6), np.geomspace(1e9, 1e11, 6)))
  runs = pd.DataFrame({'size': N, 'tokens': D, 'loss': E + A * N**-ALPHA + B * D**-BETA})
  runs['loss'] *= np.exp(0.002 * rng.normal(size=len(runs)))
  runs.to_csv(folder / 'runs.csv', index=False)
  columns = {'N': 'size', 'D': 'tokens', 'L': 'loss'}
  fit.fit('chinchilla', runs, columns, bootstrap=50).to_json(folder / 'fit.json')
  columns = {'C': '6*size*tokens', 'M': 'tokens/size', 'L': 'loss'}
  fit.fit('overtraining', runs, columns, bootstrap=0).to_json(folder / 'over.json')
  return folder


def run(capsys, *argv):
  code = frontier_command.main([str(x) for x in argv])
  out = capsys.readouterr()
  return code, out.out, out.err


def test_a_fit(folder, capsys):
  code, out, err = run(
    capsys, folder / 'fit.json', '--queries=1e9',
    '--prompt=500', '--response=300', '--budget=1e21', '--target=2.4', f'--out={folder / "p.png"}',
  )  # fmt: skip
  assert code == 0 and not err
  assert 'measured: N 100M to 10B, D 1B to 100B; 1B queries of 500 + 300 tokens' in out
  assert '10× training tokens ≈' in out and '36 rows, 50 bootstrap samples' in out
  assert (folder / 'p.png').read_bytes().startswith(b'\x89PNG')
  line = next(line for line in out.splitlines() if line.startswith('L = 2.4'))
  found = fit.read(folder / 'fit.json')
  ranges = {'N': (1e8, 1e10), 'D': (1e9, 1e11)}
  choice = planning.for_target(planning.of_fit(found, ranges, 1e9, 500, 300), 2.4)
  assert plan_words.human(choice.split['N']) in line
  assert plan_words.amount(choice.total, 'FLOP') in line


def test_a_law_of_other_inputs(folder, capsys):
  """Over-training's law is of compute and tokens a parameter: told so, it plans N and D."""
  code, out, err = run(
    capsys, folder / 'over.json', f'--table={folder / "runs.csv"}', '--budget=1e21',
    '--columns=N=size,D=tokens', '--inputs=C=6*N*D,M=D/N',
  )  # fmt: skip
  assert code == 0 and not err
  p = fit.read(folder / 'over.json').params
  M = (p['b'] / p['a']) ** (1 / (2 * p['eta']))  # a M^eta + b M^-eta is least there
  assert plan_words.human((1e21 / (6 * M)) ** 0.5) in out


def test_a_study(folder, capsys):
  picture = folder / 'frontier.png'
  code, out, err = run(capsys, folder / 'study', '--target=0.2,0.999', f'--out={picture}')
  assert code == 0 and not err and picture.stat().st_size > 10_000
  assert 'for 20.0 %:' in out and 'no split reaches 99.9 %' in out
  assert 'by the law of majority@k, within the measured ranges' in out
  assert '10× samples a query' in out and '95 %' in out


def test_the_training_of_scorers_is_said_to_be_left_out(tmp_path, capsys):
  truth = synthetic.Truth(
    sizes=('150k',), budgets=(4e5, 1.6e6), problems=20, samples=16, updates=(10,), rl_gain={}
  )
  synthetic.add_strategies(synthetic.write(tmp_path / 'w', truth), skill=2.5)
  _, out, _ = run(capsys, tmp_path / 'w', '--queries=1e3', '--budget=1e13', '--target=0.4')
  table, target = out.split('\nmeasured, for ')
  for said in (table, target):
    assert 'best of outcome (25k) with' in said and frontier_words.SCORER in said
  _, out, _ = run(capsys, tmp_path / 'w', '--queries=0', '--target=0.01')
  assert 'best of outcome (25k)' not in out and frontier_words.SCORER not in out


def test_a_study_in_money(folder, capsys):
  rates = '--rates=train=1e12,prefill=1e12,decode=1e10,price=3600'
  code, out, err = run(capsys, folder / 'study', '--queries=1e4', rates, '--pretraining=counted')
  assert code == 0 and not err
  assert 'chosen on half of the problems, scored on the rest' in out
  measured = out.split('exchange')[0].split('measured:')[1]
  assert '$' in measured and 'FLOP' not in measured


@pytest.mark.parametrize(
  'argv, words',
  [
    (['fit.json', '--table=runs.csv'], 'give both, or neither'),
    (['none.json'], 'no such file'),
    (['runs.csv'], 'is not a fit'),
    (['fit.json', '--queries=1e9'], 'tokens of a query'),
    (['fit.json', '--target=1.2'], 'out of reach'),
    (['fit.json', '--budget=much'], 'not a number'),
    (['fit.json', '--budget=-1'], 'not negative'),
    (['fit.json', '--inputs=C=6*Z'], "'Z' is none of N, P, D, C, k"),
    (['over.json'], 'no input N'),
    (['study', '--queries=1e4,1e5'], 'one number, not 2'),
    (['study', '--pretraining=free'], "'sunk' or 'counted'"),
    (['study', '--rates=train=1'], 'prefill is missing'),
    (['study', '--rates=train=1,prefill=0,decode=1'], 'above 0'),
    (['study', '--study=other'], 'holds no study'),
    (['study', '--queries=1e4', '--budget=1', '--out=f.png'], 'the cheapest costs'),
    (['.'], 'no study has run'),
  ],
)
def test_bad_input_is_a_line_and_exit_code_2(folder, capsys, monkeypatch, argv, words):
  monkeypatch.chdir(folder)
  code, _, err = run(capsys, *argv)
  assert code == 2 and words in err and err.count('\n') == 1


def test_as_a_module_it_warns_of_nothing(folder):
  command = [sys.executable, '-m', 'analysis.frontier', str(folder / 'fit.json'), '--budget=1']
  done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'buys nothing' in done.stderr


@pytest.mark.parametrize('text', ['train', 'train=x,prefill=1,decode=1', 'speed=3'])
def test_rates_that_are_none(text):
  with pytest.raises(BadInput, match='--rates'):
    plan_words.parse_rates(text)
