"""Which responses are of one reasoning path: cases worked out by hand."""

import hypothesis.strategies as st
import pytest
from hypothesis import given

from scaling.data import paths


@pytest.mark.parametrize(
  'text, found',
  [
    ('46-56=-10#-10', ['46-56=-10']),
    ('48 / 2 = 24 clips. 48+24 = 72', ['48/2=24', '48+24=72']),
    ('half of 48 is 48 ÷ 2 = $24.00', ['48/2=24']),
    ('so 1,200 × .50 = 600.0', ['1200*0.5=600']),
    ('She has 1200*.5 = <<1,200*0.50=600.0>>600', ['1200*0.5=600']),  # the mark, not the words
    ('3*x=20-5=15;x=15/3=5#5', ['20-5=15', '15/3=5']),
    ('1+2=3+4=7', ['1+2=3', '3+4=7']),
    ('a total of (2 + 3) × 4 = 20 dollars', ['(2+3)*4=20']),
    ('-3+5=2', ['-3+5=2']),
    ('x = 5, that is 5 = 5, or -5 = -5', []),
    ('007 + 1 = 8', ['7+1=8']),
    ('10+20=30 and 100+200=300', ['10+20=30', '100+200=300']),
    ('', []),
  ],
)
def test_equations(text, found):
  assert paths.equations(text) == found


def test_a_path_is_its_equations_in_order_and_its_answer():
  key = lambda text, answer: paths.key(text, answer, 'equations')
  assert key('2+3=5;5+4=9#9', '9') == key('first 2 + 3 = 5, then 5 + 4 = 9. #9', '9')
  assert key('2+3=5;5+4=9#9', '9') != key('3+4=7;2+7=9#9', '9')
  assert key('2+3=5;5+4=9#9', '9') != key('5+4=9;2+3=5#9', '9')
  assert key('2+3=5#9', '9') != key('2+3=5#5', '5')
  assert paths.key('Two  plus\nthree', None, 'text') == paths.key('two plus THREE', None, 'text')
  assert paths.key('2 + 3 = 5', '5', 'text') != paths.key('2+3=5', '5', 'text')


@given(st.lists(st.tuples(*[st.integers(0, 10**6)] * 2), min_size=1, max_size=5))
def test_spelling_changes_no_path(numbers):
  plain = ';'.join(f'{a}+{b}={a + b}' for a, b in numbers)
  spelled = '. Then '.join(f'${a:,} + {b:07d} = {a + b:,}.00' for a, b in numbers)
  assert paths.equations(plain) == paths.equations(spelled) == plain.split(';')


@given(st.text(alphabet='0123456789+-*/=().,<> x$', max_size=200))
def test_any_text_has_equations(text):
  for equation in paths.equations(text):
    left, right = equation.split('=')
    assert left and right and ' ' not in equation
