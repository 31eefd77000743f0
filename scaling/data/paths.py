"""Reasoning paths: when two responses to a problem solve it in the same way.

    equations   the list of their equations, in order, is the same (RFT, 2308.01825), and the answer
    text        their text is, whatever its case and spaces

An equation is an expression with an operator in it, '=', and a number. Spaces, the commas of
thousands and currency signs are left out of it, and a number has one spelling: '1,200 * .5 = 600.0'
is '1200*0.5=600'.
"""

import re

DISTINCT = ('equations', 'text', 'none')  # 'none': every response is taken for a path of its own

_SIGNS = str.maketrans(
  {'×': '*', '·': '*', '÷': '/', '−': '-', '–': '-', '$': '', '€': '', '£': ''}
)
_THOUSANDS = re.compile(r'(?<=\d),(?=\d{3}(?!\d))')
_NUMBER = re.compile(r'\d+(?:\.\d+)?|\.\d+')
_SIDES = re.compile(r'(?<![\d.()*/^%+-])([\d.()*/^%+-]+)=(?=([+-]?(?:\d+(?:\.\d+)?|\.\d+)%?))')
_OPERATOR = re.compile(r'[\d.)%][*/^+-]')
_MARKED = re.compile(r'<<([^<>]*)>>')


def _spelled(number: re.Match) -> str:
  """'007' -> '7', '600.0' -> '600', '.50' -> '0.5'."""
  whole, _, part = number[0].partition('.')
  part = part.rstrip('0')
  return (whole.lstrip('0') or '0') + (f'.{part}' if part else '')


def equations(text: str) -> list[str]:
  """The equations of a response, in order, each in its one spelling; [] where it has none.

  Where a response has the marks of GSM8K's calculator, those in them.
  """
  text = '\n'.join(_MARKED.findall(text)) or text
  text = _THOUSANDS.sub('', text.translate(_SIGNS))
  text = re.sub(r'[ \t]*([*/^%+=()-])[ \t]*', r'\1', text)
  sides = [found for found in _SIDES.findall(text) if _OPERATOR.search(found[0])]
  return [_NUMBER.sub(_spelled, f'{left}={right}') for left, right in sides]


def key(text: str, answer: str | None, how: str) -> str:
  """What is equal for two responses of the same path. how: of DISTINCT, 'none' as 'equations'."""
  if how == 'text':
    return ' '.join(text.lower().split())
  return ';'.join([*equations(text), f'#{answer}'])
