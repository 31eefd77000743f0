"""Verdicts: is a response's answer right?

    verify_all(problems, responses) -> [[Verdict of each response] of each problem]

The answer is what follows the last '#' of a response (of task 'math' what is in its last \\boxed{},
of task 'code' the program, of tasks without one the whole response), in a canonical form, so that
equal answers fall in one class of a vote.
Nothing here evaluates text. A reasoning-gym task whose scorer was read, and does not (ADMITTED), is
scored here; the scorers of all others, math-verify and programs run in the sandbox
(`scaling.rewards.sandbox`), many at a time. A verdict that could not be had is not correct, and its
status says why: it is counted, never silently 0.
"""

import collections
import difflib
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import sandbox, untrusted

MAX_PROGRAM = 20_000  # characters of a program
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

NONSENSE = 'zz'  # right for no problem of any task

# Tasks of version 0.1.25 that no sandbox makes usable, and why.
_NO_ANSWER = 'its entries come without an answer to learn from'
UNUSABLE = {
  'ab': "its answers have '#' in them, the mark that an answer follows",
  'arc_agi': 'its data are not in the package',
  'boxnet': _NO_ANSWER,
  'composite': 'it is made of other tasks: take one of them',
  'game_of_life_halting': 'its scorer gives full marks to any text',
  'graph_color': _NO_ANSWER,
  'propositional_logic': _NO_ANSWER,
  'rearc': 'its scorer reads Python objects that a file cannot keep',
  'rubiks_cube': _NO_ANSWER,
  'rush_hour': _NO_ANSWER,
}
TEXTS = ('responses', 'messages')  # tasks whose answer is the whole response: texts are compared
FILES = ('jsonl', 'math', 'code', *TEXTS)  # read from a file: see scaling/data/problem_files.py
LIMITS = {  # of a job, by who scores
  'scorer': sandbox.Limits(cpu_seconds=2, memory_bytes=512 << 20),
  'math': sandbox.Limits(cpu_seconds=3, memory_bytes=512 << 20),
  'code': sandbox.Limits(cpu_seconds=2, memory_bytes=256 << 20),
}

_NUMBER = re.compile(r'([+-]?)\$? ?([+-]?)(\d{1,3}(?:,\d{3})+|\d+)?(?:\.(\d*))?', re.ASCII)
_PLAIN = re.compile(r'[\s0-9.,+$%°-]*')  # no letter, which may be a variable, and no fraction
_UNIT = re.compile(r"[ A-Za-z%°$/.']*")
_SCALE = re.compile(r'\b(?:hundred|thousand|million|billion|trillion|dozen|[kKmMbB])\b', re.I)


class Verdict(NamedTuple):
  correct: bool
  answer: str | None  # canonical; None where the response gives none
  # 'ok', or why there is no verdict (then `correct` is False): 'error', the scorer raised; or, of
  # a job in the sandbox, 'timeout', 'memory', 'output', 'error'
  status: str = 'ok'


def verify(problem: Problem, response: str) -> Verdict:
  """The verdict on a response: right only for a full score by the task's own scorer.

  Partial credit is not correct. An answer that is not of the task's kind (a number, a list of
  numbers) is None, as if there were none, and never reaches the scorer. BadInput where the task
  needs the sandbox, and there is none.
  """
  return verify_all([problem], [[response]])[0][0]


def verify_all(
  problems: Sequence[Problem], responses: Sequence[Sequence[str]]
) -> list[list[Verdict]]:
  """The verdicts on the responses to each problem, as `verify` gives them one by one.

  What runs in the sandbox runs on all of its workers at once; an answer that comes several times to
  one problem is checked once.
  """
  answers = [[answer_of(problem, text) for text in texts]
             for problem, texts in zip(problems, responses, strict=True)]  # fmt: skip
  found, jobs = {}, []
  for p, (problem, given) in enumerate(zip(problems, answers, strict=True)):
    for answer in dict.fromkeys(given):
      known = _known(problem, answer)
      if known is not None:
        found[p, answer] = known
      else:
        jobs += [((p, answer), job) for job in _jobs(problem, answer)]
  results = sandbox.run(sandbox.shared(), [job for _, job in jobs]) if jobs else []
  parts = collections.defaultdict(list)
  for (place, _), result in zip(jobs, results, strict=True):
    parts[place].append(result)
  for (p, answer), ones in parts.items():
    found[p, answer] = _judged(problems[p], answer, ones)
  return [[found[p, answer] for answer in given] for p, given in enumerate(answers)]


def answer_of(problem: Problem, response: str) -> str | None:
  """The canonical form of a response's answer; None where it gives none of the task's kind."""
  if problem.task == 'code':
    return program(response)
  if problem.task in TEXTS:
    return canonical(problem.task, response)
  text = boxed(response) if problem.task == 'math' else None
  text = extract(response) if text is None else text
  return None if text is None else canonical(problem.task, text)


def _known(problem: Problem, answer: str | None) -> Verdict | None:
  """The verdict on an answer where nothing needs to be run for it."""
  if answer is None:
    return Verdict(False, None)
  if problem.task == 'math':
    if answer == problem.answer:
      return Verdict(True, answer)
    plain = all(_PLAIN.fullmatch(text) and number(text) for text in (answer, problem.answer))
    return Verdict(False, answer) if plain else None
  if problem.task in ('jsonl', *TEXTS):
    return Verdict(answer == problem.answer, answer)
  return _scored(problem, answer) if problem.task in ADMITTED else None


def _jobs(problem: Problem, answer: str) -> list[sandbox.Job]:
  """What the sandbox has to run for a verdict on an answer."""
  where = 'scaling.rewards.untrusted:'
  if problem.task == 'math':
    return [
      sandbox.Job(
        f'{where}equal',
        {'gold': problem.answer, 'answer': answer},
        limits=LIMITS['math'],
        prepare=((f'{where}warm', {}),),
      )
    ]
  if problem.task == 'code':
    tests, limits = problem.entry['tests'], LIMITS['code']
    if isinstance(tests[0], str):
      return [sandbox.Job(f'{where}program', {'source': answer, 'checks': tests}, limits=limits)]
    return [sandbox.Job(f'{where}script', {'source': answer}, t['input'], limits) for t in tests]
  return [
    sandbox.Job(
      f'{where}score',
      {'task': problem.task, 'answer': answer, 'entry': problem.entry},
      limits=LIMITS['scorer'],
      prepare=((f'{where}scorer', {'task': problem.task}),),
    )
  ]


def _judged(problem: Problem, answer: str, results: Sequence[sandbox.Result]) -> Verdict:
  """The verdict that the results of an answer's jobs make."""
  failed = [result.status for result in results if result.status != 'ok']
  if problem.task == 'code' and 'error' in failed:  # it raised, or ended itself: that is wrong
    return Verdict(False, answer)
  if failed:
    return Verdict(False, answer, failed[0])
  if problem.task == 'code' and not isinstance(problem.entry['tests'][0], str):
    wanted = [test['output'] for test in problem.entry['tests']]
    pairs = zip(wanted, results, strict=True)
    return Verdict(all(_lines(text) == _lines(result.output) for text, result in pairs), answer)
  return Verdict(all(result.value is True for result in results), answer)


def _lines(text: str) -> list[str]:
  """The lines of an output, without the spaces and empty lines at their ends."""
  return [line.rstrip() for line in text.rstrip().split('\n')]


def program(response: str) -> str | None:
  """The program in a response: its last ```block```, or all of it; None for one that is empty."""
  blocks = re.findall(r'```[^\n`]*\n(.*?)```', response, re.S)
  text = (blocks[-1] if blocks else response).strip('\n')
  return text if text.strip() and len(text) <= MAX_PROGRAM else None


def boxed(response: str) -> str | None:
  """What is in the last \\boxed{} of a response, stripped; None without one that is closed."""
  _, mark, text = response.rpartition('\\boxed{')
  depth = 1
  for end, character in enumerate(text[: MAX_ANSWER + 1] if mark else ''):
    depth += (character == '{') - (character == '}')
    if depth == 0:
      return text[:end].strip() or None
  return None


def extract(response: str) -> str | None:
  """What follows the last '#', stripped; None without one, or with nothing or a book after it."""
  _, mark, text = response.rpartition('#')
  text = text.strip()
  return text if mark and 0 < len(text) <= MAX_ANSWER else None


def canonical(task: str, text: str) -> str | None:
  """An answer's canonical form, None where it is not of the task's kind of answer."""
  if task == 'math':
    return (number(text) if _PLAIN.fullmatch(text) else None) or latex(text) or None
  if task in TEXTS:
    return ' '.join(unicodedata.normalize('NFKC', text).casefold().split()) or None
  kind = {'jsonl': 'number'}.get(task) or (ADMITTED[task].kind if task in ADMITTED else 'text')
  return {'number': number, 'list': number_list, 'text': str.strip}[kind](text)


def latex(text: str) -> str:
  """An answer in LaTeX without dollars, spacing and sizes: '$\\dfrac{1}{2}\\,$' -> '\\frac{1}{2}'.

  Only so that a vote counts the commonest spellings as one; whether two answers are equal is for
  math-verify to say.
  """
  text = re.sub(r'\\(?:left|right)(?![A-Za-z])|\\[,;!]', '', text.replace('$', ''))
  return re.sub(r'\s+', ' ', re.sub(r'\\[dt]frac(?![A-Za-z])', r'\\frac', text)).strip()


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


def check_task(task: str) -> None:
  """BadInput for a task that is not there, or that cannot be used."""
  if task in ADMITTED or task in FILES:
    return
  import reasoning_gym.factory

  if task in UNUSABLE:
    raise BadInput(f'task {task!r} cannot be used: {UNUSABLE[task]}')
  known = [*FILES, *sorted(set(reasoning_gym.factory.DATASETS) - set(UNUSABLE))]
  if task in known:
    return
  near = difflib.get_close_matches(task, known, n=3, cutoff=0.5)
  hint = f'did you mean {" or ".join(near)}?' if near else f'use one of {", ".join(known)}'
  raise BadInput(f'unknown task {task!r}: {hint}')


def check_available(task: str) -> None:
  """BadInput where the verdicts of a task need the sandbox and there is none."""
  if task not in ADMITTED and task not in ('jsonl', *TEXTS):
    sandbox.shared()


def _scored(problem: Problem, answer: str) -> Verdict:
  """The verdict by a scorer of ADMITTED; one that raises on odd text has none.

  Numbers must be equal besides: number_sorting's scorer lets each be off by 1, and gsm_symbolic's
  does not see a sign, which a policy would learn to use.
  """
  if ADMITTED[problem.task].kind != 'text' and answer != problem.answer:
    return Verdict(False, answer)
  try:
    return Verdict(untrusted.score(problem.task, answer, problem.entry), answer)
  except Exception:  # whatever a scorer may raise
    return Verdict(False, answer, 'error')


def sound(problem: Problem) -> bool:
  """Whether a reasoning-gym problem's own solution is right by its scorer, and nonsense is not.

  The solution is the generator's, never a model's: it is scored here, in no sandbox.
  """
  answer = answer_of(problem, problem.solution)
  if answer != problem.answer:
    return False
  if problem.task in ADMITTED:
    return _scored(problem, answer).correct
  return _passes(problem, answer) and not _passes(problem, NONSENSE)


def _passes(problem: Problem, text: str) -> bool:
  try:
    return untrusted.score(problem.task, text, problem.entry)
  except Exception:  # whatever a scorer may raise
    return False
