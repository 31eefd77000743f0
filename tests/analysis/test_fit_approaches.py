"""Approaches 1 and 2 on runs made by the law, whose exponents are known."""

import numpy as np
import pandas as pd
import pytest

from analysis import approaches, approaches_command, laws
from analysis.errors import BadInput

TRUTH = (1.69, 406.4, 0.34, 410.7, 0.28)
A = 0.28 / (0.34 + 0.28)  # N_opt ~ C^a
G = (0.34 * 406.4 / (0.28 * 410.7)) ** (1 / 0.62)
SAME = {name: name for name in ('run', 'C', 'N', 'L', 'D')}


def optimum(C):
  return G * (C / 6) ** A


def profiles(width=2.0, noise=0.0):
  """Nine sizes within a factor `width` of the optimum at each of six budgets."""
  C = np.repeat(np.geomspace(1e18, 1e21, 6), 9)
  N = optimum(C) * np.tile(np.geomspace(1 / width, width, 9), 6)
  L = laws.chinchilla(*TRUTH, N, C / 6 / N)
  L = L * np.exp(np.random.default_rng(0).normal(0, noise, len(L)))
  return pd.DataFrame({'C': C, 'N': N, 'L': L, 'D': C / 6 / N})


def curves():
  D = np.geomspace(1e8, 1e12, 300)
  rows = []
  for i, N in enumerate(np.geomspace(1e7, 1e10, 24)):
    L = laws.chinchilla(*TRUTH, N, D)
    rows.append(pd.DataFrame({'run': i, 'C': 6 * N * D, 'N': N, 'D': D, 'L': L}))
  return pd.concat(rows, ignore_index=True)


def test_parabolas_at_equal_flops():
  growth = approaches.isoflop(profiles(), SAME)
  assert growth.a == pytest.approx(A, abs=0.005) and growth.a + growth.b == pytest.approx(1)
  assert growth.optima['N'].to_numpy() == pytest.approx(optimum(growth.optima['C']), rel=0.05)
  noisy = approaches.isoflop(profiles(4.0, 0.002), SAME)
  low, high = noisy.a_interval
  assert low < A < high and 0.005 < high - low < 0.2
  assert noisy.b_interval == pytest.approx((1 - high, 1 - low))


def test_a_budget_without_a_minimum_is_left_out_with_the_reason():
  table = profiles()
  C = np.unique(table['C'])
  few = table['C'].isin(C[:1]) & (table['N'] > table['N'][2])
  off = table['C'].isin(C[1:2]) & (table['N'] > 1.05 * optimum(C[1]))
  growth = approaches.isoflop(table[~few & ~(table['C'].isin(C[1:2]) & ~off)], SAME)
  assert [why for _, why in growth.left_out] == [
    'fewer than 4 sizes',
    'no minimum among its sizes',
  ]
  assert [at for at, _ in growth.left_out] == pytest.approx(C[:2])
  assert len(growth.optima) == 4
  with pytest.raises(BadInput, match='1 of 1 budgets have a minimum'):
    approaches.isoflop(table[table['C'] == C[3]], SAME)


def test_envelope_of_training_curves():
  growth = approaches.envelope(curves(), SAME, bootstrap=50)
  assert growth.a == pytest.approx(A, abs=0.05)  # sizes are a grid, and its ends are off
  assert growth.a_interval[0] < growth.a < growth.a_interval[1]
  lowest = growth.optima
  assert (lowest['L'] >= laws.chinchilla(*TRUTH, optimum(lowest['C']),
          lowest['C'] / 6 / optimum(lowest['C'])) - 1e-3).all()  # fmt: skip
  with pytest.raises(BadInput, match='curves of 2 sizes or more must cross'):
    approaches.envelope(curves().query('run == 3'), SAME)


def test_columns_are_named():
  with pytest.raises(BadInput, match='L not given; it takes C, N, L'):
    approaches.isoflop(profiles(), {'C': 'C', 'N': 'N'})


def test_the_best_size_at_a_budget_is_the_laws_and_its_interval_holds_it():
  growth = approaches.isoflop(profiles(4.0, 0.002), SAME)
  C = np.array([1e18, 1e21, 1e23])
  N, low, high = approaches.optimum(growth, C)
  assert (low < optimum(C)).all() and (optimum(C) < high).all()
  np.testing.assert_allclose(N, optimum(C), rtol=0.25)
  without = approaches.optimum(approaches.isoflop(profiles(), SAME, bootstrap=0), C)
  assert np.isnan(without[1]).all()


def test_the_command_says_exponents_and_what_is_extrapolated(tmp_path, capsys):
  table, picture = tmp_path / 'runs.csv', tmp_path / 'growth.png'
  profiles(2.0).to_csv(table, index=False)
  given = [str(table), '--columns=C=C,N=N,L=L', '--budget=1e20,1e23', '--bootstrap=50']
  assert approaches_command.main([*given, f'--plot={picture}']) == 0
  said = capsys.readouterr().out
  assert f'a = {A:.3f}' in said and picture.stat().st_size > 10_000
  near, far = (next(line for line in said.splitlines() if line.startswith(b)) for b in PLANNED)
  assert 'beyond' not in near and '100x beyond' in far


PLANNED = '100 EFLOP', '100 ZFLOP'


@pytest.mark.parametrize(
  'given, words',
  [
    (['--columns=C=C,N=N,L=loss'], "column 'loss' is not there"),
    (['--columns=C=C,N=N,L=L', '--approach=envelope'], 'run not given'),
    (['--columns=C=C,N=N,L=L', '--budget=-1'], '--budget=-1: each must be above 0'),
    (['--columns=C=C,N=N,L=L', '--budget=much'], '--budget=much: numbers of FLOPs'),
  ],
)
def test_bad_input_is_one_line(tmp_path, capsys, given, words):
  profiles().to_csv(tmp_path / 'runs.csv', index=False)
  assert approaches_command.main([str(tmp_path / 'runs.csv'), *given]) == 2
  error = capsys.readouterr().err
  assert words in error and error.count('\n') == 1
