"""Expressions against Python's own arithmetic, and what they refuse."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from analysis.errors import BadInput
from analysis.expressions import evaluate, names

TABLE = pd.DataFrame(
  {'a': [1.0, 2.0, 4.0], 'b': [3, 5, 7], 'a b': [2.0, 2.0, 8.0], 'corpus': ['c4', 'rpj', 'c4']}
)
BIG = pd.DataFrame({'params': [6_889_410_560], 'tokens': [138_000_000_000]})

leaf = st.sampled_from(['a', 'b', '2', '0.5', '`a b`'])
tree = st.recursive(
  leaf,
  lambda x: st.one_of(
    st.tuples(x, st.sampled_from(['+', '-', '*', '/']), x).map(lambda t: f'({t[0]} {t[1]} {t[2]})'),
    x.map(lambda t: f'-{t}'),
    x.map(lambda t: f'exp({t} / 100)'),
    st.tuples(x, x).map(lambda t: f'max({t[0]}, {t[1]})'),
  ),
  max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(tree)
def test_arithmetic_is_pythons(text):
  scope = {'a': TABLE['a'].to_numpy(), 'b': TABLE['b'].to_numpy(float), 'exp': np.exp}
  scope |= {'c': TABLE['a b'].to_numpy(), 'max': np.maximum}
  with np.errstate(all='ignore'):
    expected = eval(text.replace('`a b`', 'c'), scope)
  found = evaluate(text, lambda name: TABLE[name])
  assert np.allclose(found, expected, equal_nan=True)


@pytest.mark.parametrize(
  'text,expected',
  [
    ('a > 1', [False, True, True]),
    ('1 < a <= 2', [False, True, False]),
    ('a > 1 and b < 6', [False, True, False]),
    ('not (a > 1) or b == 7', [True, False, True]),
    ("corpus == 'c4'", [True, False, True]),
    ("corpus != 'c4' or `a b` > 7", [False, True, True]),
    ('a ** 2 % 3', [1.0, 1.0, 1.0]),
    ('sqrt(a) + log10(100) + abs(-1)', [4.0, 3 + np.sqrt(2), 5.0]),
  ],
)
def test_comparisons_and_functions(text, expected):
  assert evaluate(text, lambda name: TABLE[name]) == pytest.approx(np.array(expected))


def test_integers_do_not_overflow():
  found = evaluate('6 * params * tokens', lambda name: BIG[name])
  assert found[0] == pytest.approx(6 * 6_889_410_560 * 138_000_000_000, rel=1e-15)
  assert evaluate('9 ** 9 ** 9', lambda name: BIG[name]) == np.inf  # and does not hang


def test_names_are_in_order_and_without_functions():
  assert names('log(`a b`) + b / (a + b) - max(2, 3)') == ['a b', 'b', 'a'] or set(
    names('log(`a b`) + b / (a + b) - max(2, 3)')
  ) == {'a b', 'a', 'b'}


@pytest.mark.parametrize(
  'text,message',
  [
    ("__import__('os').system('true')", 'is not understood'),
    ('a.__class__', r"'a.__class__' is not understood"),
    ('a[0]', 'is not understood'),
    ('[x for x in a]', 'is not understood'),
    ('lambda: a', 'is not understood'),
    ('(a := 3)', 'is not understood'),
    ('a if b else a', 'is not understood'),
    ("f'{a}'", 'is not understood'),
    ('open(a)', 'is not understood'),
    ('log(a, b)', 'is not understood'),
    ('max(a, key=b)', 'is not understood'),
    ('True', 'is not understood'),
    ('a @ b', 'is not understood'),
    ('`a b`.x', r"'`a b`.x' is not understood"),
    ('a +', "expression 'a \\+'"),
    ('(' * 400 + 'a' + ')' * 400, 'expression'),
    ('a' * 2000, 'expression of 2000 characters'),
    ('corpus * 2', 'corpus is text, not a number'),
    ('corpus > 3', 'text is compared by == or !='),
    ('corpus == 3', 'text is compared with a number'),
  ],
)
def test_what_is_no_expression_is_refused_in_a_line(text, message):
  with pytest.raises(BadInput, match=message) as error:
    evaluate(text, lambda name: TABLE[name])
  assert '\n' not in str(error.value)
