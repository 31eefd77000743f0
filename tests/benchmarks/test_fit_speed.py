"""The fit benchmark, at its smallest, writes the form that every benchmark has."""

import json

import numpy as np
import pytest
from scipy import optimize

from benchmarks import fit, fit_workers


def test_the_file_has_the_form(tmp_path, capsys):
  out = tmp_path / 'deep' / 'fit.json'
  fit.main([
    f'--out={out}', '--table=none.csv', '--tools=scipy', '--repeats=1', '--share=0.002',
    '--resamples=500', '--laws=coverage',
  ])  # fmt: skip
  found = json.loads(out.read_text())
  assert set(found) == {'machine', 'rows', 'skipped'} and found['skipped'] == {}
  assert found['machine']['data'] == 'made up' and found['machine']['share'] == 0.002
  assert {(r['tool'], r['work'], r['metric']) for r in found['rows']} == {
    ('postscale', 'global', 'first_seconds'),
    *((t, w, m) for t in ('postscale', 'scipy') for w in ('global', 'bootstrap')
      for m in ('seconds', 'excess')),
    ('postscale', 'coverage', 'seconds_10000'),
  }  # fmt: skip
  excess = {(r['tool'], r['work']): r['max'] for r in found['rows'] if r['metric'] == 'excess'}
  assert excess['postscale', 'global'] < 1e-9 and excess['postscale', 'bootstrap'] < 1e-9
  assert 'seconds' in capsys.readouterr().out


def test_gradient_by_hand():
  table = fit_workers.runs('none.csv')
  size = table['Model Size'].to_numpy()
  data = np.log(size), np.log(table['Training FLOP'] / 6 / size), np.log(table['loss'])
  data = [np.asarray(x) for x in (*data, fit_workers.resampled(240, 3)[2])]
  at = fit_workers.OPTIMUM * 1.02
  value, slope = fit_workers._gradient(at, *data)
  assert value == pytest.approx(fit_workers._objective(np, at, *data))
  objective = lambda t: fit_workers._objective(np, t, *data)
  assert slope == pytest.approx(optimize.approx_fprime(at, objective, 1e-8), rel=1e-3, abs=1e-4)


def test_an_unknown_tool_or_law_is_said(capsys):
  for flag in ('--tools=bfgs', '--laws=powr', '--share=2'):
    with pytest.raises(SystemExit) as error:
      fit.main(['--out=x.json', flag])
    assert error.value.code == 2 and flag.split('=')[0] in capsys.readouterr().err
