"""Exact derivatives of laws: numpy functions of values that carry their own derivatives.

A `Jet` is a value with its first and second derivatives by the parameters, those that are not zero
by construction alone. numpy's functions and operators take it as they take an array, so a law that
is written in numpy is differentiated as it stands, at about the cost of formulas written by hand.
"""

from collections.abc import Callable

import numpy as np
from scipy import special

from analysis.errors import BadInput

UNARY = {  # function -> its first and second derivative, of the argument u and the value y
  np.positive: (lambda u, y: 1.0, None),
  np.negative: (lambda u, y: -1.0, None),
  np.absolute: (lambda u, y: np.sign(u), None),
  np.exp: (lambda u, y: y, lambda u, y: y),
  np.expm1: (lambda u, y: y + 1, lambda u, y: y + 1),
  np.log: (lambda u, y: 1 / u, lambda u, y: -1 / (u * u)),
  np.log2: (lambda u, y: 1 / (u * np.log(2)), lambda u, y: -1 / (u * u * np.log(2))),
  np.log10: (lambda u, y: 1 / (u * np.log(10)), lambda u, y: -1 / (u * u * np.log(10))),
  np.log1p: (lambda u, y: 1 / (1 + u), lambda u, y: -1 / ((1 + u) * (1 + u))),
  np.sqrt: (lambda u, y: 0.5 / y, lambda u, y: -0.25 / (u * y)),
  np.square: (lambda u, y: 2 * u, lambda u, y: 2.0),
  np.reciprocal: (lambda u, y: -y * y, lambda u, y: 2 * y * y * y),
  np.tanh: (lambda u, y: 1 - y * y, lambda u, y: -2 * y * (1 - y * y)),
  np.sin: (lambda u, y: np.cos(u), lambda u, y: -y),
  np.cos: (lambda u, y: -np.sin(u), lambda u, y: -y),
  special.expit: (lambda u, y: y * (1 - y), lambda u, y: y * (1 - y) * (1 - 2 * y)),
  special.gammaln: (lambda u, y: special.psi(u), lambda u, y: special.zeta(2, u)),
}


class Jet(np.lib.mixins.NDArrayOperatorsMixin):
  """A value, {i: d/dp_i} and {(i, j): d2/dp_i dp_j, i <= j} (None where only first are wanted)."""

  __slots__ = ('first', 'second', 'value')

  def __init__(self, value, first, second):
    self.value, self.first, self.second = value, first, second

  def __array_ufunc__(self, ufunc, method, *inputs, **kwargs):
    if method == '__call__' and not kwargs:
      if ufunc in UNARY:
        return _chain(self, ufunc(self.value), *UNARY[ufunc])
      if ufunc in BINARY:
        return BINARY[ufunc](*inputs)
      if ufunc in COMPARISONS:
        return ufunc(*(_value(x) for x in inputs))
    known = ', '.join(sorted(f.__name__ for f in (*UNARY, *BINARY)))
    raise BadInput(f'a law may not call {ufunc.__name__}.{method} on a parameter; it may: {known}')

  def __float__(self):
    raise BadInput('a law may not make a plain number of a parameter, as math.exp does: use np.exp')

  def __array_function__(self, func, types, args, kwargs):
    raise BadInput(f'a law may not call {func.__name__} on a parameter; use arithmetic and ufuncs')


def variables(values, order: int) -> list[Jet]:
  """A Jet for each value: the parameters to differentiate by, to order 1 or 2."""
  return [Jet(v, {i: 1.0}, {} if order == 2 else None) for i, v in enumerate(values)]


def through(function: Callable, *args):
  """function(*args), of which some are Jets, differentiated by these alone, then once by theirs.

  The same as calling it, and cheaper where few args depend on many parameters.
  """
  inner = [x for x in args if isinstance(x, Jet)]
  if not inner:
    return function(*args)
  order = 1 if inner[0].second is None else 2
  fresh = iter(variables([u.value for u in inner], order))
  y = function(*(next(fresh) if isinstance(x, Jet) else x for x in args))
  scaled = lambda by, of: {key: _times(by, x) for key, x in of.items()}
  first, second = {}, {}
  for a, slope in y.first.items():
    first = _merge(first, scaled(slope, inner[a].first))
    second = _merge(second, scaled(slope, inner[a].second or {}))
  for (a, b), curve in (y.second or {}).items():
    u, v = inner[a].first, inner[b].first
    for i, x in scaled(curve, u).items():
      for j, z in v.items():
        if a != b or i <= j:
          twice = 2.0 if a != b and i == j else 1.0
          second = _merge(second, {(min(i, j), max(i, j)): _times(twice, _times(x, z))})
  return Jet(y.value, first, second if order == 2 else None)


def _value(x):
  return x.value if isinstance(x, Jet) else x


def _times(a, b):
  return b if isinstance(a, float) and a == 1 else a if isinstance(b, float) and b == 1 else a * b


def _merge(a: dict, b: dict) -> dict:
  return a | {key: a[key] + x if key in a else x for key, x in b.items()}


def _chain(u: Jet, value, slope, curve) -> Jet:
  """g(u), from g's derivatives."""
  d1 = slope(u.value, value)
  first = {i: _times(d1, x) for i, x in u.first.items()}
  if u.second is None:
    return Jet(value, first, None)
  second = {key: _times(d1, x) for key, x in u.second.items()}
  if curve is not None and u.first:
    d2 = curve(u.value, value)
    scaled = {i: _times(d2, x) for i, x in u.first.items()}
    pairs = {(i, j): _times(x, y) for i, x in scaled.items() for j, y in u.first.items() if i <= j}
    second = _merge(second, pairs)
  return Jet(value, first, second)


def _add(u, v):
  if not isinstance(u, Jet):
    u, v = v, u
  if not isinstance(v, Jet):
    return Jet(u.value + v, u.first, u.second)
  second = None if u.second is None else _merge(u.second, v.second)
  return Jet(u.value + v.value, _merge(u.first, v.first), second)


def _multiply(u, v):
  if not isinstance(u, Jet):
    u, v = v, u
  if not isinstance(v, Jet):
    scale = lambda of: {key: _times(x, v) for key, x in of.items()}
    return Jet(u.value * v, scale(u.first), None if u.second is None else scale(u.second))
  first = _merge(
    {i: _times(x, v.value) for i, x in u.first.items()},
    {j: _times(y, u.value) for j, y in v.first.items()},
  )
  if u.second is None:
    return Jet(u.value * v.value, first, None)
  second = _merge(
    {key: _times(x, v.value) for key, x in u.second.items()},
    {key: _times(y, u.value) for key, y in v.second.items()},
  )
  for i, x in u.first.items():
    for j, y in v.first.items():
      both = _times(x, y)
      second = _merge(second, {(min(i, j), max(i, j)): both * 2 if i == j else both})
  return Jet(u.value * v.value, first, second)


def _power(u, v):
  if not isinstance(v, Jet):
    slope = lambda x, y: v * x ** (v - 1)
    return _chain(u, u.value**v, slope, lambda x, y: v * (v - 1) * x ** (v - 2))
  if isinstance(u, Jet):
    return np.exp(v * np.log(u))
  log = np.log(u)
  return _chain(v, u**v.value, lambda x, y: y * log, lambda x, y: y * log * log)


def _log_add_exp(u, v):
  d = u - v
  p = special.expit(d.value)
  return v + _chain(d, np.logaddexp(0, d.value), lambda x, y: p, lambda x, y: p * (1 - p))


def _pick(chosen):
  """u where chosen(u, v), else v: np.minimum and np.maximum."""

  def choose(u, v):
    wins = np.asarray(chosen(_value(u), _value(v)))
    return _multiply(u, wins * 1.0) + _multiply(v, ~wins * 1.0)

  def of(u, v):
    kind = u if isinstance(u, Jet) else v
    constant = lambda x: Jet(x, {}, None if kind.second is None else {})
    return choose(*(x if isinstance(x, Jet) else constant(x) for x in (u, v)))

  return of


BINARY = {
  np.add: _add,
  np.subtract: lambda u, v: _add(u, np.negative(v)),
  np.multiply: _multiply,
  np.divide: lambda u, v: _multiply(u, np.reciprocal(v) if isinstance(v, Jet) else 1 / v),
  np.power: _power,
  np.float_power: _power,
  np.logaddexp: _log_add_exp,
  np.minimum: _pick(np.less_equal),
  np.maximum: _pick(np.greater_equal),
}
COMPARISONS = (np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal)
