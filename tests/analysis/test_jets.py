"""Derivatives by jets against differences, and against a complex step, which has no rounding."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from law_cases import CASES
from scipy import special

from analysis import jets
from analysis.errors import BadInput
from analysis.laws import LAWS

REAL = {'beta_binomial', 'data_constrained', 'bnsl', 'bnsl2'}  # not of complex arguments
UNARY = [f for f in jets.UNARY if f not in (np.absolute, np.positive)]


@pytest.mark.parametrize('name', sorted(set(LAWS) - REAL))
def test_first_derivatives_of_laws(name):
  law, (params, inputs, _) = LAWS[name], CASES[name]
  found = law.function(*jets.variables(params, 1), *inputs)
  for i in range(len(params)):
    shifted = np.array(params, complex) + 1e-30j * (np.arange(len(params)) == i)
    exact = law.function(*shifted, *inputs).imag / 1e-30
    assert found.first[i] + 0 * exact == pytest.approx(exact, rel=1e-9, abs=1e-290)


@pytest.mark.parametrize('name', LAWS)
def test_second_derivatives_of_laws(name):
  """Against central differences of the first derivatives."""
  law, (params, inputs, y) = LAWS[name], CASES[name]
  params = np.array(params)
  found = law.function(*jets.variables(params, 2), *inputs)
  for j in range(len(params)):
    step = 1e-5 * np.abs(params[j]) * (np.arange(len(params)) == j)
    up, down = (law.function(*jets.variables(params + s * step, 1), *inputs).first for s in (1, -1))
    for i in range(len(params)):
      slope = (up.get(i, 0.0) - down.get(i, 0.0)) / (2 * step[j]) + 0 * y
      exact = found.second.get((min(i, j), max(i, j)), 0.0) + 0 * y
      size = np.abs(slope).max() + 1e-6 * np.abs(y).max() / abs(params[i] * params[j])
      assert exact == pytest.approx(slope, rel=2e-4, abs=2e-5 * size), (i, j)


@pytest.mark.parametrize('function', UNARY, ids=lambda f: f.__name__)
@settings(max_examples=20, deadline=None)
@given(u=st.floats(0.1, 3.0))
def test_functions(function, u):
  x = jets.variables([u], 2)[0]
  y, h = function(x), 1e-4 * u
  up, down = function(u + h), function(u - h)
  assert y.value == function(u)
  assert y.first[0] == pytest.approx((up - down) / (2 * h), rel=1e-4, abs=1e-6)
  curve = (up - 2 * y.value + down) / h**2
  assert y.second.get((0, 0), 0.0) == pytest.approx(curve, rel=1e-3, abs=1e-4)


@settings(max_examples=50, deadline=None)
@given(a=st.floats(0.2, 3.0), b=st.floats(0.2, 3.0))
def test_every_binary_operation(a, b):
  def law(p, q):
    x = p**q + 2.0**p - q / p + 3 / (p * q) - (p - 1) * np.logaddexp(p, q) + np.maximum(p, 0.1)
    return x + np.minimum(q, 100.0) * p**3 + np.float_power(q, 0.5) + abs(-p) + np.logaddexp(1.0, q)

  def plain(v):
    return law(*v)

  found = law(*jets.variables([a, b], 2))
  point = np.array([a, b])
  assert found.value == pytest.approx(plain(point))
  h = 1e-4
  for i in range(2):
    e = h * (np.arange(2) == i)
    assert found.first[i] == pytest.approx((plain(point + e) - plain(point - e)) / 2 / h, rel=1e-5)
    for j in range(i, 2):
      d = h * (np.arange(2) == j)
      corner = lambda s, t: plain(point + s * e + t * d)  # noqa: B023
      exact = (corner(1, 1) - corner(1, -1) - corner(-1, 1) + corner(-1, -1)) / 4 / h**2
      assert found.second[i, j] == pytest.approx(exact, rel=1e-3, abs=1e-4 * abs(found.value))


@pytest.mark.parametrize('order', [1, 2])
def test_through_is_the_same_as_without(order):
  """Two values that share a parameter, a parameter itself, and one that is none."""
  a, b, c = jets.variables([1.3, 0.7, 2.1], order)
  x = np.array([0.5, 1.5])

  def law(u, v, c, x):
    return np.exp(u * x) / v + c * u * v + np.log1p(c * x)

  args = (a * b - x, b * np.log(c) + a, c, x)
  found, exact = jets.through(law, *args), law(*args)
  assert found.value == pytest.approx(exact.value)
  assert set(found.first) == set(exact.first) == {0, 1, 2}
  for key, value in exact.first.items():
    assert found.first[key] == pytest.approx(value)
  if order == 1:
    assert found.second is None
  else:
    assert set(found.second) == set(exact.second)
    for key, value in exact.second.items():
      assert found.second[key] == pytest.approx(value)
  plain = law(1.0, 2.0, 3.0, x)
  assert jets.through(law, 1.0, 2.0, 3.0, x) == pytest.approx(plain)


def test_only_what_is_not_zero_is_there():
  E, A, alpha = jets.variables([1.0, 2.0, 0.5], 2)
  y = E + A * np.exp(-alpha * np.log(np.array([2.0, 3.0])))
  assert set(y.first) == {0, 1, 2} and y.first[0] == 1.0
  assert set(y.second) == {(1, 2), (2, 2)}
  assert (alpha > 0.4) and not (alpha > 0.6)


@pytest.mark.parametrize(
  'call', [lambda x: np.floor(x), lambda x: np.where(x > 0, x, 0), lambda x: special.erf(x)]
)
def test_what_is_not_known_is_said(call):
  with pytest.raises(BadInput, match=r'a law may not call (floor|where|erf)'):
    call(jets.variables([1.0], 2)[0])
