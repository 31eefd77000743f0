"""python -m analysis.fit: what it prints and writes, and bad input in one line with exit code 2."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from law_cases import CASES

from analysis import fit, fit_command, fit_plots, laws

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope='module')
def runs():
  _, (N, D), L = CASES['chinchilla']
  L = L * np.exp(np.random.default_rng(0).normal(0, 0.005, len(L)))
  return pd.DataFrame({'the size': N, 'flop': 6 * N * D, 'loss': L, 'corpus': 'c4'})


@pytest.fixture
def table(runs, tmp_path):
  runs.to_csv(tmp_path / 'runs.csv', index=False)
  return str(tmp_path / 'runs.csv')


COLUMNS = '--columns=N=`the size`,D=flop/(6*N),L=loss'


def test_the_command_as_typed(table, tmp_path):
  out = tmp_path / 'fit.json'
  args = [table, '--law=chinchilla', COLUMNS, '--bootstrap=20', f'--out={out}']
  ran = subprocess.run(
    [sys.executable, '-m', 'analysis.fit', *args], cwd=ROOT, capture_output=True, text=True
  )
  assert ran.returncode == 0, ran.stderr
  about = json.loads(out.read_text())
  assert about['provenance']['command'].startswith('python -m analysis.fit ')
  assert "'--columns=N=`the size`,D=flop/(6*N),L=loss'" in about['provenance']['command']
  assert len(about['samples']) == 20
  bad = subprocess.run(
    [sys.executable, '-m', 'analysis.fit', table, '--law=chinchila', COLUMNS],
    cwd=ROOT, capture_output=True, text=True,
  )  # fmt: skip
  assert bad.returncode == 2 and bad.stdout == ''
  assert bad.stderr.startswith("analysis.fit: law 'chinchila' is not there; nearest: chinchilla")
  assert bad.stderr.count('\n') == 1


def test_what_is_printed_and_drawn(table, tmp_path, capsys):
  plot = tmp_path / 'figures' / 'fit.png'
  args = [table, '--law=chinchilla', COLUMNS + ',X=N', '--bootstrap=50', '--profile']
  args += ['--drop=top:2:loss', '--drop=loss > 1e3', '--holdout=flop > 1e19', f'--plot={plot}']
  assert fit_command.main([*args, '--compare=kaplan,sft_multiplicative', '--seed=3']) == 0
  said = capsys.readouterr().out
  for words in (
    'L = E + A / N^alpha + B / D^beta', '2 dropped (2: top:2:loss)', '95 % bootstrap, 50',
    '95 % profile', 'held out: RMSE of the log prediction', 'delta aicc', 'sft_multiplicative',
  ):  # fmt: skip
    assert words in said, words
  assert plot.read_bytes()[:4] == b'\x89PNG'
  first = said.split('\nlaw ')[1].splitlines()[1]
  assert first.startswith('chinchilla')


@pytest.mark.parametrize('kind', ['csv', 'parquet', 'jsonl'])
def test_kinds_of_tables(runs, tmp_path, kind, capsys):
  path = tmp_path / f'runs.{kind}'
  if kind == 'csv':
    runs.to_csv(path, index=False)
  elif kind == 'parquet':
    runs.to_parquet(path)
  else:
    runs.to_json(path, orient='records', lines=True, double_precision=15)
  assert fit_command.main([str(path), '--law=chinchilla', COLUMNS, '--bootstrap=0']) == 0
  assert 'E          1.7208\n' in capsys.readouterr().out


def test_the_list_has_every_law(capsys):
  assert fit_command.main(['--law=list']) == 0
  said = capsys.readouterr().out
  for law in laws.LAWS.values():
    assert f'{law.name}\n  {law.formula}\n' in said and law.source in said


def test_a_law_in_a_file(table, tmp_path, capsys):
  (tmp_path / 'mine.py').write_text(
    'def line(a, b, *, x):\n  """y = a + b x"""\n  return a + b * x\n'
  )
  args = [table, f'--law={tmp_path}/mine.py:line', '--columns=x=log(flop),y=log(loss)']
  assert fit_command.main([*args, '--loss=squares', '--bootstrap=0']) == 0
  said = capsys.readouterr().out
  frame = pd.read_csv(table)
  b, a = np.polyfit(np.log(frame['flop']), np.log(frame['loss']), 1)
  assert f'a          {a:.5g}' in said and f'b          {b:.5g}' in said


def test_counts_and_fixed_parameters(tmp_path, capsys):
  k = 2.0 ** np.arange(8)
  pd.DataFrame({'k': k, 'c': np.arange(3, 83, 10), 'n': 90}).to_csv(tmp_path / 'c.csv')
  args = [str(tmp_path / 'c.csv'), '--law=coverage', '--columns=k=k,pass_at_k=c']
  assert fit_command.main([*args, '--loss=binomial', '--trials=n', '--fixed=b=0.5']) == 0
  said = capsys.readouterr().out
  assert 'fixed' in said and 'loss binomial' in said


@pytest.mark.parametrize(
  'args,message',
  [
    (['--law=chinchilla'], 'give a table, and --columns='),
    (['TABLE', '--law=chinchilla', '--columns=N=params,D=flop,L=loss'], "column 'params' is not"),
    (['TABLE', '--law=chinchilla', '--columns=N=flop'], 'chinchilla needs N, D, L; given N'),
    (['TABLE', '--law=chinchilla', '--columns=N'], "'N' is not NAME=VALUE"),
    (['TABLE', '--law=chinchilla', '--columns=N=flop,N=loss'], 'is not NAME=VALUE, each name once'),
    (['TABLE', '--law=power', '--columns=x=corpus,L=loss'], "column 'corpus', row 0: 'c4' is not"),
    (['TABLE', '--law=power', '--columns=x=flop-1e99,L=loss'], 'must be positive for a log'),
    (['TABLE', '--law=power', '--columns=x=flop*0+1,L=loss'], 'all values are equal'),
    (['TABLE', '--law=power', '--columns=x=flop,L=open(loss)'], 'is not understood'),
    (['TABLE', '--law=nope.py:f', COLUMNS], 'there is no Python file nope.py'),
    (['TABLE', '--law=power', '--columns=x=flop,L=loss', '--fixed=E=one'], 'E=one is not a number'),
    (['TABLE', '--law=power', '--columns=x=flop,L=loss', '--bootstrap=-1'], '0 or more'),
    (['TABLE', '--law=power', '--columns=x=flop,L=loss', '--plot=x.txt'], '--plot=x.txt'),
    (['TABLE', '--law=power', '--columns=x=flop,L=loss', '--compare=kaplan'], 'kaplan needs N, D'),
    (['none.csv', '--law=power', COLUMNS], 'none.csv: there is no such file'),
    (['table.xlsx', '--law=power', COLUMNS], 'a table is .csv, .parquet or .jsonl'),
    (['BROKEN', '--law=power', COLUMNS], 'is not a readable .parquet'),
    (['EMPTY', '--law=power', COLUMNS], 'has no rows'),
  ],
)
def test_bad_input_is_one_line_and_exit_code_2(args, message, table, tmp_path, capsys, monkeypatch):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'broken.parquet').write_text('no parquet')
  (tmp_path / 'empty.csv').write_text('a,b\n')
  places = {'TABLE': table, 'BROKEN': 'broken.parquet', 'EMPTY': 'empty.csv'}
  args = [places.get(a, a) for a in args]
  if not any('bootstrap' in a for a in args):
    args.append('--bootstrap=5')
  assert fit_command.main(args) == 2
  said = capsys.readouterr().err
  assert said.startswith('analysis.fit: ') and message in said
  assert said.count('\n') == 1


@pytest.mark.parametrize('law', ['power', 'sigmoid', 'gold_rl', 't2', 'coverage'])
def test_every_kind_of_law_is_drawn_with_its_n(law):
  _, inputs, y = CASES[law]
  names = [*laws.LAWS[law].inputs, laws.LAWS[law].output]
  table = pd.DataFrame(dict(zip(names, (*inputs, y * 1.001 ** np.arange(len(y))), strict=True)))
  found = fit.fit(law, table, {n: n for n in names}, loss='squares', bootstrap=20)
  drawing = fit_plots.fit_figure(found, table)
  drawing.figure.savefig('/dev/null', format='png')
  words = drawing.figure.get_suptitle()
  assert f'n = {len(y)} rows' in words and '95 % over 20 resamples' in words
  assert f'{law} on {len(y)} rows' in drawing.caption
  assert len(drawing.figure.axes) == 3


def test_rows_held_out_by_a_mask_are_drawn_open_as_those_of_a_comparison():
  x = np.geomspace(1, 1e3, 12)
  table = {'x': x, 'L': laws.power(0.5, 2.0, 0.5, x) * 1.01 ** np.arange(12)}

  def open_points(holdout):
    found = fit.fit('power', table, {'x': 'x', 'L': 'L'}, holdout=holdout, bootstrap=0)
    json.dumps(found.provenance)
    figure = fit_plots.fit_figure(found, table).figure
    drawn = figure.axes[1].collections
    return sum(len(points.get_offsets()) for points in drawn if not len(points.get_facecolors()))

  assert open_points(x > 200) == open_points('x > 200') == int((x > 200).sum())
