"""Verdicts: is a response's answer right?

The answer is what follows the last '#' of a response, in a canonical form, so that equal answers
fall in one class of a vote. Nothing here evaluates text: a reasoning-gym task is admitted only
where its scorer was read and does not; the rest wait for a sandbox.
"""

import difflib
import functools
import re
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.errors import BadInput

MAX_ANSWER = 4000  # characters; below the 4300 digits at which int() refuses, by far above use


class Admitted(NamedTuple):
  """A reasoning-gym task whose `score_answer` was read, in version 0.1.25."""

  kind: str  # of its answers: 'number', 'list' (of numbers) or 'text'
  finding: str  # what the scorer does to the text that it is given


ADMITTED = {
  'basic_arithmetic': Admitted('number', 'compares strings (eval is on its own expression alone)'),
  'caesar_cipher': Admitted('text', 'compares strings'),
  'chain_sum': Admitted('number', 'compares Decimal(text)'),
  'count_bits': Admitted('number', 'compares strings'),
  'decimal_chain_sum': Admitted('number', 'compares Decimal(text)'),
  'gcd': Admitted('number', 'compares strings'),
  'gsm_symbolic': Admitted('number', 'compares float() of the first number it finds'),
  'lcm': Admitted('number', 'compares strings'),
  'leg_counting': Admitted('number', 'compares strings'),
  'letter_counting': Admitted('number', 'compares strings'),
  'number_sorting': Admitted(
    'list', 'compares json.loads(text); eval is for an answer of its own that is not JSON: ours is'
  ),
  'products': Admitted('number', 'compares Decimal(text)'),
  'simple_equations': Admitted('number', 'compares strings'),
  'spell_backward': Admitted('text', 'compares strings, whatever their case'),
}

# Scorers that evaluate the text that they are given, by eval or by sympy's parse_expr.
EVALUATES = frozenset(
  'binary_matrix countdown intermediate_integration n_queens polynomial_multiplication puzzle24 '
  'simple_integration spiral_matrix string_insertion'.split()
)

_NUMBER = re.compile(r'([+-]?)\$? ?([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?', re.ASCII)
_UNIT = re.compile(r"[ A-Za-z%°$/.']*")
_SCALE = re.compile(r'\b(?:hundred|thousand|million|billion|trillion|dozen|[kKmMbB])\b', re.I)


class Verdict(NamedTuple):
  correct: bool
  answer: str | None  # canonical; None where the response gives none


def verify(problem: Problem, response: str) -> Verdict:
  """The verdict on a response: right only for a full score by the task's own scorer.

  Partial credit is not correct. An answer that is not of the task's kind (a number, a list of
  numbers) is None, as if there were none, and never reaches the scorer.
  """
  text = extract(response)
  answer = None if text is None else canonical(problem.task, text)
  return Verdict(answer is not None and _full_score(problem, answer), answer)


def extract(response: str) -> str | None:
  """What follows the last '#', stripped; None without one, or with nothing or a book after it."""
  _, mark, text = response.rpartition('#')
  text = text.strip()
  return text if mark and 0 < len(text) <= MAX_ANSWER else None


def canonical(task: str, text: str) -> str | None:
  """An answer's canonical form, None where it is not of the task's kind of answer."""
  kind = 'number' if task == 'jsonl' else admitted(task).kind
  return {'number': number, 'list': number_list, 'text': str.strip}[kind](text)


def number(text: str) -> str | None:
  """A decimal number without commas, currency, unit or idle zeros: ' $1,234.50 ' -> '1234.5'.

  Digits are moved, not computed with: '1e999', 'nan', '9**9' and digits of other scripts are no
  numbers, and none of them costs time.
  """
  text = text.strip()
  found = _NUMBER.match(text)
  before, after, whole, fraction = found.groups()
  if (before and after) or not (whole or fraction):
    return None
  unit = text[found.end() :]
  if not _UNIT.fullmatch(unit) or _SCALE.search(unit):
    return None
  whole = (whole or '').replace(',', '').lstrip('0') or '0'
  fraction = (fraction or '').rstrip('0')
  value = f'{whole}.{fraction}' if fraction else whole
  return f'-{value}' if '-' in (before, after) and value != '0' else value


def number_list(text: str) -> str | None:
  """A list of numbers as reasoning-gym writes it: "3, 1.50" or '["3", "1.5"]' -> "['3', '1.5']"."""
  text = text.strip()
  if text.startswith('[') and text.endswith(']'):
    text = text[1:-1]
  items = [_bare(item) for item in text.split(',')]
  return None if None in items else str(items)


def _bare(item: str) -> str | None:
  """One item of a list: a plain number, perhaps between quotes."""
  item = item.strip()
  if len(item) > 1 and item[0] == item[-1] and item[0] in '\'"':
    item = item[1:-1]
  return number(item) if re.fullmatch(r'[+-]?[0-9.]+', item) else None


def admitted(task: str) -> Admitted:
  """The entry of a reasoning-gym task. Raises BadInput for one that is not on the list."""
  if task in ADMITTED:
    return ADMITTED[task]
  import reasoning_gym.factory

  known = reasoning_gym.factory.DATASETS
  if task in EVALUATES:
    raise BadInput(
      f'task {task!r}: its scorer evaluates the text it is given, which waits for the sandbox: '
      f'use one of {", ".join(sorted(ADMITTED))}'
    )
  if task in known:
    raise BadInput(
      f'task {task!r}: its scorer was not read yet, and it may evaluate text: '
      f'use one of {", ".join(sorted(ADMITTED))}'
    )
  near = difflib.get_close_matches(task, [*ADMITTED, 'jsonl'], n=3, cutoff=0.5)
  hint = (
    f'did you mean {" or ".join(near)}?' if near else f'use one of {", ".join(ADMITTED)}, jsonl'
  )
  raise BadInput(f'unknown task {task!r}: {hint}')


def _full_score(problem: Problem, answer: str) -> bool:
  """Whether the task's own scorer gives 1; a scorer that raises on odd text gives 0.

  Numbers must be equal besides: number_sorting's scorer lets each be off by 1, and gsm_symbolic's
  does not see a sign, which a policy would learn to use.
  """
  if problem.task == 'jsonl':
    return answer == problem.answer
  if admitted(problem.task).kind != 'text' and answer != problem.answer:
    return False
  try:
    return scorer(problem.task)(answer, problem.entry) == 1.0
  except Exception:  # whatever a scorer of another package may raise
    return False


@functools.lru_cache
def scorer(task: str):
  """The task's own `score_answer(text, entry)`, built once. Raises BadInput off the allow-list."""
  admitted(task)
  import reasoning_gym

  return reasoning_gym.get_score_answer_fn(task)
