"""Each law against its formula written out, and its table entry against its function."""

import inspect

import numpy as np
import pytest
from law_cases import CASES

from analysis import laws, starts
from analysis.errors import BadInput
from analysis.laws import LAWS


def test_there_is_a_case_for_every_law():
  assert set(CASES) == set(LAWS)


@pytest.mark.parametrize('name', LAWS)
def test_law_is_its_formula_and_names_its_arguments(name):
  law, (params, inputs, expected) = LAWS[name], CASES[name]
  assert law.function(*params, *inputs) == pytest.approx(expected, rel=1e-10)
  arguments = list(inspect.signature(law.function).parameters)
  assert arguments == [*(p.name for p in law.params), *law.inputs]
  assert law.function.__doc__ and law.source and '=' in law.formula
  assert all(p.lower < value < p.upper for p, value in zip(law.params, params, strict=True))


@pytest.mark.parametrize('name', LAWS)
def test_some_start_lies_near_the_truth(name):
  law, (params, inputs, y) = LAWS[name], CASES[name]
  free = np.ones(len(params), bool)
  rows = starts.propose(law, inputs, y, 1 / y, free, {})
  assert rows.shape[1] == len(params) and np.isfinite(rows).all()
  assert all((p.lower <= x).all() and (x <= p.upper).all() for p, x in zip(law.params, rows.T))
  worst = min(np.abs(law.function(*row, *inputs) / y - 1).max() for row in rows)
  assert worst < 0.5


@pytest.mark.parametrize(
  'name,linear',
  [('chinchilla', 'E A B'), ('sigmoid', 'R_0 A'), ('gold_rl', 'alpha beta'), ('coverage', '')],
)
def test_linear_parameters_are_found(name, linear):
  law, (params, inputs, _) = LAWS[name], CASES[name]
  found = starts.linear_parameters(law, inputs, np.ones(len(params), bool))
  assert [law.params[i].name for i in found] == linear.split()


def test_limits():
  assert laws.sigmoid(0.2, 0.6, 1e3, 2.0, 1e3) == pytest.approx(0.4)
  assert laws.sigmoid(0.2, 0.6, 1e3, 2.0, np.array([1e-9, 1e15])) == pytest.approx([0.2, 0.6])
  assert laws.power(1.5, 10.0, 0.5, 1e30) == pytest.approx(1.5)
  # Before any token is repeated, and at a size that U tokens can feed, data are not constrained.
  plain = laws.chinchilla(1.87, 521.0, 0.35, 1488.0, 0.36, 1e8, 1e10)
  free = laws.data_constrained(1.87, 521.0, 0.35, 1488.0, 0.36, 5.3, 15.4, 1e8, 1e10, 1e10)
  assert free == pytest.approx(plain, rel=1e-12)
  # Chinchilla with equal exponents is the law of over-training, A = (b / a) a' …: at M = D / N.
  N, D, A, B, s = 1e8, 3e9, 406.0, 410.0, 0.3
  scale = 6 ** (s / 2)
  over = laws.overtraining(1.7, A * scale, B * scale, s / 2, 6 * N * D, D / N)
  assert over == pytest.approx(laws.chinchilla(1.7, A, s, B, s, N, D), rel=1e-12)


def test_a_function_is_a_law():
  def mine(floor: (0, 10), A: (1e-9, 1e9), alpha, *, x):
    """y = floor + A x^-alpha

    And more.
    """
    return floor + A * x**-alpha

  law = laws.from_function(mine, 'y')
  assert (law.name, law.inputs, law.output) == ('mine', ('x',), 'y')
  assert law.formula == 'y = floor + A x^-alpha'
  assert [p[:3] for p in law.params[:2]] == [('floor', 0.0, 10.0), ('A', 1e-9, 1e9)]
  assert law.params[2].lower == -np.inf
  assert law.function(1.0, 2.0, 0.5, 4.0) == 2.0


def _no_inputs(a, b):
  return a + b


def _mixed(a: (0, 1), x, b: (0, 1)):
  return a + b * x


def _bad_bounds(a: (1, 0), *, x):
  return a * x


@pytest.mark.parametrize(
  'function,message',
  [
    (_no_inputs, 'law _no_inputs: write its parameters'),
    (_mixed, 'law _mixed: write its parameters'),
    (_bad_bounds, r'parameter a: bounds are \(lower, upper\)'),
  ],
)
def test_a_function_that_is_no_law(function, message):
  with pytest.raises(BadInput, match=message):
    laws.from_function(function, 'y')
