"""Problems beyond the given ones, in a task's own grammar; and how different texts are.

An arithmetic task is an expression in words that surround it. `evolved` changes the expression as
Evol-Instruct (2304.12244) changes an instruction: one more term, larger numbers, another operator,
or other numbers. `read` finds the expression in a text that a model wrote, which gives it an answer
to be verified by; a text that is none of the task's is not a problem of it.
"""

import random
import re
from collections.abc import Sequence

import numpy as np

from scaling.data import pools, solutions
from scaling.data.batches import Problem

OPERATORS = {'chain_sum': '+-', 'products': '*'}  # the tasks that have a grammar here
CHANGES = ('term', 'digits', 'operator', 'number')
INSTRUCTION = """Here are some problems.

{problems}

Write one more problem of this kind, other than these and not easier. Write the problem alone,
without its number and without its solution.
"""
PAIRS = 2_000  # of texts, of which the mean distance is taken


def expression_of(problem: Problem) -> str:
  """The expression of a problem of OPERATORS: '12 + 34 - 5'."""
  return problem.entry['metadata']['expression']


def made(like: Problem, expression: str, style: str) -> Problem | None:
  """The problem of another expression, in the words of `like`, with its worked solution."""
  old, entry = expression_of(like), like.entry
  value = _value(expression, like.task)
  changed = entry | {
    'question': entry['question'].replace(old, expression),
    'answer': str(value),
    'metadata': {'expression': expression},
  }
  draft = pools.draft_of(like.task, changed, style)
  return None if draft is None else draft.problem


def _value(expression: str, task: str) -> int:
  first, *rest = expression.split(' ')
  total = int(first)
  for operator, term in zip(rest[::2], rest[1::2], strict=True):
    total = {'+': total + int(term), '-': total - int(term), '*': total * int(term)}[operator]
  return total


def evolved(problem: Problem, style: str, seed: str) -> Problem | None:
  """The problem after one of CHANGES to its expression; None where it stays as it was."""
  rng, words = random.Random(seed), expression_of(problem).split(' ')
  terms, operators = words[::2], words[1::2]
  change, at = rng.choice(CHANGES), rng.randrange(len(terms))
  digits = len(terms[at].lstrip('-'))
  if change == 'term':
    terms.append(_number(rng, len(rng.choice(terms).lstrip('-'))))
    operators.append(rng.choice(OPERATORS[problem.task]))
  elif change == 'digits':
    terms[at] = _number(rng, digits + 1)
  elif change == 'operator' and operators:
    i = rng.randrange(len(operators))
    operators[i] = rng.choice(OPERATORS[problem.task])
  else:
    terms[at] = _number(rng, digits)
  rest = [word for pair in zip(operators, terms[1:], strict=True) for word in pair]
  expression = ' '.join([terms[0], *rest])
  return None if expression == expression_of(problem) else made(problem, expression, style)


def _number(rng: random.Random, digits: int) -> str:
  return str(rng.randrange(10 ** (digits - 1), 10**digits))


def read(text: str, like: Problem, style: str) -> Problem | None:
  """The problem that a text states in the words of `like`; None where it is none of the task's."""
  old, spaced = expression_of(like), r'-?(?:0|[1-9]\d*)'
  operator = f'[{re.escape(OPERATORS[like.task])}]'
  if style == 'short':
    found = re.fullmatch(rf'({spaced}(?:{operator}{spaced})+)=', text)
    expression = found and re.sub(rf'(?<=\d)({operator})', r' \1 ', found[1])
  else:
    before, _, after = like.prompt.partition(old)
    body = rf'({spaced}(?: {operator} {spaced})+)'
    found = re.fullmatch(re.escape(before) + body + re.escape(after), text)
    expression = found and found[1]
  if not expression:
    return None
  problem = made(like, expression, style)
  return problem if problem is not None and problem.prompt == text else None


def instruct(prompts: Sequence[str]) -> str:
  """The text of a prompt that shows problems and asks for one more of their kind."""
  listed = '\n\n'.join(f'Problem {i}: {text.strip()}' for i, text in enumerate(prompts, 1))
  return INSTRUCTION.format(problems=listed)


def check(task: str) -> str | None:
  """Why a task, as a config has it, has no grammar here; None where it has one."""
  name = task.partition('(')[0].strip()
  if name in OPERATORS and name in solutions.SHORT:
    return None
  return f'the task {name} has no grammar to make problems of: {", ".join(OPERATORS)} have'


# -- how different texts are


def distinct(sequences: Sequence[Sequence[int]], n: int) -> float:
  """distinct-n (1510.03055): distinct n-grams of all sequences over all of their n-grams."""
  grams = [tuple(s[i : i + n]) for s in sequences for i in range(len(s) - n + 1)]
  return len(set(grams)) / len(grams) if grams else 0.0


def distance(sequences: Sequence[Sequence[int]], n: int = 2, seed: int = 0) -> float:
  """The mean over pairs of 1 - |A and B| / |A or B|, of their sets of n-grams: 0 where all are the
  same. Of PAIRS pairs drawn with the seed where there are more."""
  sets = [{tuple(s[i : i + n]) for i in range(max(1, len(s) - n + 1))} for s in sequences]
  count = len(sets)
  if count < 2:
    return 0.0
  pairs = np.stack(np.triu_indices(count, 1), axis=1) if count <= 64 else None
  if pairs is None:
    rng = np.random.default_rng(seed)
    first = rng.integers(0, count, PAIRS)
    pairs = np.stack([first, (first + rng.integers(1, count, PAIRS)) % count], axis=1)
  far = [1 - len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b in pairs]
  return float(np.mean(far))
