"""Prompts that show an earlier attempt: to be revised, or to be judged. One place makes them, for
the data that teach them (`data/tasks.py`), for the searches that ask for them (`search/`), and for
a model that is its own teacher (`rewards/teacher.py`).

    revise    prompt, attempt, a mark  ->  a solution
    verify    prompt, attempt, a mark  ->  a verdict: right or wrong
    critique  prompt, attempt, what was said of it, the mark of revise  ->  a solution
    backward  a solution, a mark  ->  the prompt that it answers (back-translation, 2308.06259)
    corrected a conversation: prompt, a wrong attempt, what it is told  ->  a solution

In style 'short' a mark is one character that no problem and no solution has; in the others it is a
sentence after the attempt (in a chat, of the same user's message). A wrong attempt to learn from is
the gold solution with one number mistaken, and with the mistake carried on.
"""

import hashlib
import random
import re
from decimal import Decimal
from typing import NamedTuple

from scaling.data import solutions
from scaling.data.batches import Problem
from scaling.data.vocab import written
from scaling.rewards import verifiers

FORMS = ('revise', 'verify')
CRITIQUES = ('attempt', 'verdict', 'answer', 'solution')


class Marks(NamedTuple):
  """What comes between an attempt and the response, the two responses of a judge, what comes before
  an answer that is told, what a wrong attempt is told (the right answer is larger, smaller; or only
  that it is wrong), and what comes after a solution whose prompt is asked for."""

  revise: str
  verify: str
  right: str
  wrong: str
  answer: str
  larger: str
  smaller: str
  again: str
  backward: str


SHORT = Marks('\n', ':', 'c', 'x', '#', '+', '-', 'x', '::')
PLAIN = Marks(
  '\n\nLook for a mistake in this solution, then solve the problem again.\n',
  '\n\nIs this solution right? Say yes or no.\n',
  'yes',
  'no',
  '\nThe right answer is ',
  '\n\nThat is wrong: the right answer is larger.',
  '\n\nThat is wrong: the right answer is smaller.',
  '\n\nThat is wrong.',
  '\n\nWrite the problem that this is the solution of.\n',
)


def marks(style: str) -> Marks:
  """The marks of a style of prompts."""
  return SHORT if style == 'short' else PLAIN


def revise(style: str, prompt: str, attempt: str) -> str:
  """The text of a prompt that shows an attempt and asks for a better one."""
  return prompt + attempt + marks(style).revise


def verify(style: str, prompt: str, attempt: str) -> str:
  """The text of a prompt that shows an attempt and asks for a verdict."""
  return prompt + attempt + marks(style).verify


def backward(style: str, solution: str) -> str:
  """The text of a prompt that shows a solution and asks for its problem's prompt."""
  return solution + marks(style).backward


def told(style: str, problem: Problem, answer: str | None, hints: bool) -> str:
  """The text that a wrong answer gets in a conversation, which asks for another solution.

  answer: canonical, None where there is none; hints: say whether the right one is larger or
  smaller, where both are numbers.
  """
  words = marks(style)
  said, right = words.again, verifiers.number(problem.answer)
  given = None if answer is None else verifiers.number(answer)
  if hints and given is not None and right is not None:
    said = words.larger if Decimal(right) > Decimal(given) else words.smaller
  return said + words.revise


def critique(style: str, problem: Problem, attempt: str, right: bool, what: str) -> str:
  """The text of a prompt that shows an attempt and what is known of it, and asks for a better one.

  what, of CRITIQUES: 'attempt' tells nothing (it is `revise`); 'verdict' whether it is right;
  'answer' that, and the right answer; 'solution' shows the problem's own solution in its place.
  SFT teaches the first and the last form; the other two are put together of what it teaches.
  """
  if what == 'solution':
    return revise(style, problem.prompt, problem.solution)
  told, words = marks(style), ''
  if what in ('verdict', 'answer'):
    words = told.verify + (told.right if right else told.wrong)
  if what == 'answer':
    words += told.answer + problem.answer
  return revise(style, problem.prompt, attempt + words)


# -- examples to learn from


def reversed_(problem: Problem, style: str, seed: int, fraction: float) -> Problem:
  """The problem as an SFT example: for a `fraction` of them its solution is the prompt, and its
  prompt is to be written. Which ones hangs on the seed and the content, as of `shown`."""
  digest = hashlib.sha256(f'backward {seed} {problem.id}'.encode()).digest()
  if int.from_bytes(digest[:8], 'big') >= fraction * 2**64:
    return problem
  return problem._replace(prompt=backward(style, problem.solution), solution=problem.prompt)


def shown(problem: Problem, style: str, seed: int, fraction: float) -> Problem:
  """The problem as an SFT example: for a `fraction` of them, with an earlier attempt in its prompt.

  Which ones, in which of FORMS, and whether the attempt is right (half are, unless no wrong one can
  be made) hang on the seed and the problem's content alone; more of them are shown at a larger
  fraction, and those of the smaller one stay as they were.
  """
  digest = hashlib.sha256(f'attempts {seed} {problem.id}'.encode()).digest()
  if int.from_bytes(digest[:8], 'big') >= fraction * 2**64:
    return problem
  form, right = FORMS[digest[8] % 2], digest[9] % 2 == 0
  attempt = None if right else mistaken(problem, style, int.from_bytes(digest[10:18], 'big'))
  right = attempt is None
  attempt = attempt or problem.solution
  if form == 'revise':
    return problem._replace(prompt=revise(style, problem.prompt, attempt))
  verdict = marks(style).right if right else marks(style).wrong
  return problem._replace(prompt=verify(style, problem.prompt, attempt), solution=verdict)


def corrected(problem: Problem, style: str, seed: int, fraction: float) -> Problem:
  """The problem as an SFT example: for a `fraction` of them a conversation, in which a wrong
  attempt is told so, half of the times with a hint. Which ones hangs on the content, as of `shown`.
  """
  digest = hashlib.sha256(f'corrected {seed} {problem.id}'.encode()).digest()
  if int.from_bytes(digest[:8], 'big') >= fraction * 2**64:
    return problem
  wrong = mistaken(problem, style, int.from_bytes(digest[10:18], 'big'))
  if wrong is None:
    return problem
  said = told(style, problem, verifiers.answer_of(problem, wrong), digest[8] % 2 == 0)
  said = [('user', problem.prompt), ('assistant', wrong), ('user', said)]
  turns = [{'role': role, 'content': content} for role, content in said]
  return problem._replace(prompt=written(turns))


def mistaken(problem: Problem, style: str, seed: int) -> str | None:
  """The gold solution with a mistake, its answer wrong by the task's verifier; None if none is.

  Where the task's steps are arithmetic (CARRIED) one result is wrong, and all that follows is
  worked out from it. In any other solution a digit of the answer is changed, and the same number in
  the last step; where that has none, a digit of some step.
  """
  rng = random.Random(seed)
  mark = ';' if style == 'short' else '\n'
  body, _, answer = problem.solution.rpartition('#')
  steps = [step for step in body.split(mark) if step]
  for _ in range(20):
    text = None
    if steps and problem.task in CARRIED:
      found = CARRIED[problem.task](steps, rng)
      end = '' if style == 'short' else '\n'
      text = found and mark.join(found[0]) + f'{end}#{found[1]}'
    text = text or _changed(body, answer, mark, rng)
    if text != problem.solution and not verifiers.verify(problem, text).correct:
      return text
  return None


def _slip(text: str, rng: random.Random) -> str:
  """The text with one of its digits changed; as it is where it has none."""
  places = [i for i, character in enumerate(text) if character in '0123456789']
  if not places:
    return text
  at = rng.choice(places)
  return text[:at] + rng.choice('0123456789'.replace(text[at], '')) + text[at + 1 :]


def _changed(body: str, answer: str, mark: str, rng: random.Random) -> str:
  """Steps and an answer with a digit of the answer changed; see `mistaken`."""
  wrong = _slip(answer, rng)
  if wrong == answer:  # a word: its last letter is lost
    return f'{body}#{answer[:-1]}'
  steps = body.split(mark)
  filled = [i for i, step in enumerate(steps) if step.strip('# ')]
  if filled:
    number = rf'(?<![\d.,]){re.escape(answer.strip())}(?![\d.,]*\d)'
    last = filled[-1]
    step = re.sub(number, wrong.strip(), steps[last])
    if step == steps[last]:
      last = rng.choice(filled)
      step = _slip(steps[last], rng)
    steps[last] = step
  return f'{mark.join(steps)}#{wrong}'


_STEP = re.compile(r'(-?\d+)([-+*])(-?\d+)=(-?\d+)')
_WORK = {'+': lambda a, b: a + b, '-': lambda a, b: a - b, '*': lambda a, b: a * b}


def _carry(steps: list[str], rng: random.Random, sums: bool) -> tuple[list[str], int] | None:
  """(steps, the last result) of 'a+b=c' after 'c' was mistaken once, or None for other steps.

  A later step takes an earlier result as its first number. sums: the first step is such a one too,
  of a sum that is not written down, and second numbers are the problem's own; else both numbers of
  an addition are earlier results.
  """
  read = [_STEP.fullmatch(step) for step in steps]
  if None in read:
    return None
  at = rng.randrange(-sums, len(steps))  # -1: before the first step
  taken, done = {}, []
  if at < 0:
    taken[read[0][1]] = _slip(read[0][1], rng)
  for i, (a, sign, b, result) in enumerate(step.groups() for step in read):
    a = taken.get(a, a)
    if not sums and sign == '+':
      b = taken.get(b, b)
    got = str(_WORK[sign](int(a), int(b)))
    taken[result] = str(int(_slip(got, rng))) if i == at else got
    done.append(f'{a}{sign}{b}={taken[result]}')
  return done, int(taken[result])


def _expression(steps: list[str], rng: random.Random) -> tuple[list[str], int] | None:
  """(steps, the value) of an expression worked out from a step in which a digit was changed; None
  where a division then leaves a remainder."""
  at = rng.randrange(len(steps))
  begun = [*steps[:at], re.sub(r'\b0+(?=\d)', '', _slip(steps[at], rng))]
  try:
    more, value = solutions.reduced(begun[-1])
  except ArithmeticError:
    return None
  return begun + more, value


CARRIED = {  # by task: how a mistake goes on through its steps
  'chain_sum': lambda steps, rng: _carry(steps, rng, sums=True),
  'products': lambda steps, rng: _carry(steps, rng, sums=False),
  'basic_arithmetic': _expression,
}
