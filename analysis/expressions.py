"""Arithmetic on the columns of a table, from text: 'flop / (6 * params)', '`Model Size` > 1e9'.

The text is parsed, never run: names are columns, and nothing but arithmetic, comparisons, `and`,
`or`, `not` and the functions below is known. Numbers are float64, so products do not overflow.
"""

import ast
import operator
import re
from collections.abc import Callable

import numpy as np
import pandas as pd

from analysis.errors import BadInput

ARITHMETIC = {
  ast.Add: operator.add,
  ast.Sub: operator.sub,
  ast.Mult: operator.mul,
  ast.Div: operator.truediv,
  ast.Pow: operator.pow,
  ast.Mod: operator.mod,
}
COMPARISONS = {
  ast.Eq: operator.eq,
  ast.NotEq: operator.ne,
  ast.Lt: operator.lt,
  ast.LtE: operator.le,
  ast.Gt: operator.gt,
  ast.GtE: operator.ge,
}
FUNCTIONS = {
  'log': np.log,
  'log2': np.log2,
  'log10': np.log10,
  'exp': np.exp,
  'sqrt': np.sqrt,
  'abs': np.abs,
  'min': np.minimum,
  'max': np.maximum,
}
LONGEST = 1000  # characters


def names(text: str) -> list[str]:
  """The names of columns that an expression has, in order. BadInput where it is none."""
  tree, quoted = _parse(text)
  called = {id(n.func) for n in ast.walk(tree) if isinstance(n, ast.Call)}
  found = [n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in called]
  return list(dict.fromkeys(quoted.get(n.id, n.id) for n in found))


def evaluate(text: str, column: Callable[[str], pd.Series | np.ndarray]) -> np.ndarray:
  """The expression's value, an array of a row each; column(name) has a column's values.

  A column of text may be compared with text, and in no other way be used. BadInput, one line, for
  what is no expression of columns.
  """
  tree, quoted = _parse(text)

  def number(node):
    value = walk(node)
    if _is_text(value):
      raise BadInput(f'expression {text!r}: {_source(node, quoted)} is text, not a number')
    return value

  def walk(node):
    match node:
      case ast.Constant(value=bool()):
        pass
      case ast.Constant(value=int() | float() as value):
        return np.float64(value)
      case ast.Constant(value=str() as value):
        return value
      case ast.Name(id=name):
        return _values(column(quoted.get(name, name)))
      case ast.BinOp(left=left, op=op, right=right) if type(op) in ARITHMETIC:
        return ARITHMETIC[type(op)](number(left), number(right))
      case ast.UnaryOp(op=ast.USub(), operand=of):
        return -number(of)
      case ast.UnaryOp(op=ast.UAdd(), operand=of):
        return number(of)
      case ast.UnaryOp(op=ast.Not(), operand=of):
        return ~_truth(number(of))
      case ast.BoolOp(op=op, values=parts):
        gather = np.logical_and if isinstance(op, ast.And) else np.logical_or
        return gather.reduce(np.broadcast_arrays(*(_truth(number(part)) for part in parts)))
      case ast.Compare(left=left, ops=ops, comparators=others) if {*map(type, ops)} <= {
        *COMPARISONS
      }:
        pairs = zip([left, *others], ops, others)
        return np.logical_and.reduce(
          [_compare(walk(a), COMPARISONS[type(op)], walk(b), text) for a, op, b in pairs]
        )
      case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
        if len(args) == FUNCTIONS[name].nin:
          return FUNCTIONS[name](*map(number, args))
    raise BadInput(
      f'expression {text!r}: {_source(node, quoted)!r} is not understood; write arithmetic on '
      f'columns, comparisons, and, or, not, {", ".join(FUNCTIONS)}; `…` around a name with spaces'
    )

  with np.errstate(all='ignore'):
    return np.asarray(walk(tree))


def _parse(text):
  """The expression's tree, and the columns that its placeholders stand for."""
  if len(text) > LONGEST:
    raise BadInput(f'expression of {len(text)} characters: {LONGEST} at most')
  quoted = {}

  def hold(match):
    name = f'_column_{len(quoted)}'
    quoted[name] = match.group(1)
    return name

  try:
    return ast.parse(re.sub('`([^`]+)`', hold, text).strip(), mode='eval').body, quoted
  except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
    why = getattr(error, 'msg', None) or str(error)
    raise BadInput(
      f'expression {text!r}: {why}; write arithmetic on columns, `…` around a name with spaces'
    ) from error


def _source(node, quoted):
  text = ast.unparse(node)
  for name, column in quoted.items():
    text = re.sub(rf'\b{name}\b', f'`{column}`', text)
  return text


def _values(column):
  """float64 where all is a number or missing; else as it is."""
  series = pd.Series(column)
  numbers = pd.to_numeric(series, errors='coerce')
  if (numbers.isna() & series.notna()).any():
    return series.to_numpy(object)
  return numbers.to_numpy(np.float64, na_value=np.nan)


def _is_text(value):
  return isinstance(value, str) or np.asarray(value).dtype.kind == 'O'


def _truth(value):
  return np.asarray(value) != 0


def _compare(a, compare, b, text):
  words = [_is_text(x) for x in (a, b)]
  if any(words) and compare not in (operator.eq, operator.ne):
    raise BadInput(f'expression {text!r}: text is compared by == or !=')
  if any(words) and not all(words):
    raise BadInput(f'expression {text!r}: text is compared with a number')
  return compare(a, b)
