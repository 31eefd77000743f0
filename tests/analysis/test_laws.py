"""Each law against its formula written out, and its table entry against its function."""

import inspect

import numpy as np
import pytest

from analysis import laws
from analysis.laws import LAWS

X = np.geomspace(3.0, 1e6, 9)
TRUTH = {  # law -> parameters, inputs, the formula again in other words
  'power': ((1.7, 400.0, 0.34), [X], 1.7 + 400 / X**0.34),
  'chinchilla': (
    (1.69, 406.4, 0.34, 410.7, 0.28),
    [X * 1e3, X[::-1] * 1e5],
    1.69 + 406.4 / (X * 1e3) ** 0.34 + 410.7 / (X[::-1] * 1e5) ** 0.28,
  ),
  'sigmoid': ((0.2, 0.61, 2542.0, 1.92), [X], 0.2 + 0.41 * X**1.92 / (X**1.92 + 2542.0**1.92)),
  'coverage': ((2.5, 0.4), [X], np.exp(-2.5 / X**0.4)),
  'log_linear': ((0.1, 0.05), [X], 0.1 + 0.05 * np.log(X)),
}


@pytest.mark.parametrize('name', LAWS)
def test_law_is_its_formula_and_names_its_arguments(name):
  law, (params, inputs, expected) = LAWS[name], TRUTH[name]
  assert law.function(*params, *inputs) == pytest.approx(expected, rel=1e-12)
  arguments = list(inspect.signature(law.function).parameters)
  assert arguments == [*(p.name for p in law.params), *law.inputs]
  assert law.function.__doc__ and law.source
  assert all(p.lower < value < p.upper for p, value in zip(law.params, params, strict=True))


@pytest.mark.parametrize('name', LAWS)
def test_complex_step_gives_the_derivative(name):
  law, (params, inputs, _) = LAWS[name], TRUTH[name]
  for i, value in enumerate(params):
    shift = np.zeros(len(params))
    shift[i] = 1e-6 * value
    up, down = (law.function(*(params + s * shift), *inputs) for s in (1, -1))
    exact = law.function(*(params + 1e-20j * np.eye(len(params))[i]), *inputs).imag / 1e-20
    slope = (up - down) / (2 * shift[i])
    assert exact == pytest.approx(slope, rel=1e-5, abs=1e-7 * np.abs(slope).max())


@pytest.mark.parametrize('name', LAWS)
def test_some_start_lies_near_the_truth(name):
  law, (params, inputs, y) = LAWS[name], TRUTH[name]
  starts = law.starts(inputs, y)
  assert starts.shape[1] == len(params) and np.isfinite(starts).all()
  worst = min(np.abs(law.function(*row, *inputs) / y - 1).max() for row in starts)
  assert worst < 0.35


def test_limits():
  assert laws.sigmoid(0.2, 0.6, 1e3, 2.0, 1e3) == pytest.approx(0.4)
  assert laws.sigmoid(0.2, 0.6, 1e3, 2.0, np.array([1e-9, 1e15])) == pytest.approx([0.2, 0.6])
  assert laws.power(1.5, 10.0, 0.5, 1e30) == pytest.approx(1.5)
