"""Problems read from JSONL files. A line of each format:

    jsonl   {"question": "...", "answer": "...\\n#### 72"}             GSM8K's (2110.14168)
    math    {"problem": "...", "solution": "... \\\\boxed{72}"}         MATH's (2103.03874); its
            level and type (or subject) are kept
    code    {"prompt": "...", "solution": "...", "tests": [...]}     a program and its tests

A test is a text of Python that is run after the program, in its names (`assert f(2) == 4`), or
{"input": "...", "output": "..."}: what the program reads from stdin, and must write to stdout. All
tests of a line are of one kind.
"""

import hashlib
import json
import pathlib
import re
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import verifiers

ARGUMENTS = {  # of a task that is a file
  'jsonl': {'path': str, 'test_path': str, 'keep_marks': bool},
  'math': {'path': str, 'test_path': str},
  'code': {'path': str, 'test_path': str},
}
FIELDS = {
  'jsonl': ('question', 'answer'),
  'math': ('problem', 'solution'),
  'code': ('prompt', 'solution'),
}
KEPT = ('level', 'type', 'subject')  # of a problem of 'math'


class Draft(NamedTuple):
  """A problem before it is put in a pool."""

  problem: Problem
  key: str  # problems with one key are one problem, whatever words surround it
  origin: str  # where a message points: an id, or file:line


def of_file(task: str) -> bool:
  """Whether a task, as a config has it, is read from a file."""
  return re.match(rf'\s*({"|".join(ARGUMENTS)})\b', task) is not None


def identity(name: str, key: str) -> str:
  """The id of a problem of a task."""
  return f'{name}-{hashlib.sha256(key.encode()).hexdigest()[:16]}'


def read_bytes(path: str) -> bytes:
  """A file's content. BadInput where it cannot be read."""
  try:
    return pathlib.Path(path).read_bytes()
  except OSError as error:
    raise BadInput(
      f"{path}: {error.strerror}: give the path of a JSONL file in GSM8K's format, say of "
      'grade_school_math/data/train.jsonl from https://github.com/openai/grade-school-math'
    ) from None


def read(name: str, path: str, arguments: dict) -> list[Draft]:
  """The problems of a file, in the format of task `name`, with the task's arguments.

  A prompt that comes twice is kept once. BadInput with the file and the line: no line of the
  format, or a program that does not pass its own tests.
  """
  drafts = {}
  for at, line in enumerate(read_bytes(path).split(b'\n'), 1):
    where = f'{path}:{at}'
    if not line.strip():
      continue
    row = _row(line, FIELDS[name], where)
    if name == 'jsonl':
      draft = _gsm8k(row, arguments.get('keep_marks', False), where)
    else:
      draft = {'math': _math, 'code': _code}[name](row, where)
    drafts.setdefault(draft.key, draft)
  if not drafts:
    raise BadInput(f'{path}: no problems in it: it needs a line for each')
  found = list(drafts.values())
  if name == 'code':
    _check_programs(found)
  return found


def json_object(line: bytes, where: str, fields: tuple[str, ...]) -> dict:
  """The JSON object of a line. BadInput, naming the place and the first two of the fields that it
  should have, where it is none."""
  try:
    row = json.loads(line.decode('utf-8-sig'))
  except UnicodeDecodeError:
    raise BadInput(f'{where}: not UTF-8: save the file as UTF-8') from None
  except (ValueError, RecursionError) as error:
    reason = getattr(error, 'msg', 'too deep or too large')
    raise BadInput(f'{where}: not JSON ({reason}): mend or remove the line') from None
  if not isinstance(row, dict):
    raise BadInput(f'{where}: not a JSON object: write {{"{fields[0]}": ..., "{fields[1]}": ...}}')
  return row


def _row(line: bytes, fields: tuple[str, ...], where: str) -> dict:
  """A line's object, whose `fields` are texts."""
  row = json_object(line, where, fields)
  for field in fields:
    if not isinstance(row.get(field), str) or not row[field].strip():
      state = 'empty or no text' if field in row else 'missing'
      raise BadInput(f'{where}: the field {field!r} is {state}: every line needs it, a text')
    if any('\ud800' <= character <= '\udfff' for character in row[field]):
      raise BadInput(f'{where}: the field {field!r} has half a surrogate pair: mend the text')
  return row


def _gsm8k(row: dict, keep_marks: bool, where: str) -> Draft:
  """The calculator's marks (<<48/2=24>>) are taken out unless `keep_marks`."""
  text = row['answer']
  solution = text.strip() if keep_marks else re.sub(r'<<[^<>]*>>', '', text).strip()
  last = solution.rsplit('\n', 1)[-1]
  found = verifiers.extract(solution) if last.startswith('####') else None
  answer = None if found is None else verifiers.number(found)
  if answer is None:
    raise BadInput(
      f"{where}: the answer's last line is {last[:40]!r}: it must be '#### ' and a number"
    )
  return _draft('jsonl', row['question'], solution, answer, {}, where)


def _math(row: dict, where: str) -> Draft:
  found = verifiers.boxed(row['solution'])
  answer = None if found is None else verifiers.canonical('math', found)
  if answer is None:
    raise BadInput(
      f'{where}: the solution has no closed \\boxed{{...}} with an answer in it: mend or remove '
      'the line'
    )
  kept = {name: row[name] for name in KEPT if name in row}
  return _draft('math', row['problem'], row['solution'].strip(), answer, kept, where)


def _code(row: dict, where: str) -> Draft:
  tests = row.get('tests')
  texts = isinstance(tests, list) and all(isinstance(test, str) for test in tests)
  pairs = isinstance(tests, list) and all(
    isinstance(test, dict)
    and set(test) == {'input', 'output'}
    and all(isinstance(text, str) for text in test.values())
    for test in tests
  )
  if not tests or not (texts or pairs):
    raise BadInput(
      f"{where}: the field 'tests' must be a list of texts of Python, or of "
      '{"input": ..., "output": ...}, at least one'
    )
  answer = verifiers.program(row['solution'])
  if answer is None:
    raise BadInput(f'{where}: the solution has no program, or one of over '
                   f'{verifiers.MAX_PROGRAM:,} characters: mend or remove the line')  # fmt: skip
  return _draft('code', row['prompt'], row['solution'].strip('\n'), answer, {'tests': tests}, where)


def _draft(name: str, text: str, solution: str, answer: str, entry: dict, where: str) -> Draft:
  prompt = text.strip() + '\n'
  problem = Problem(identity(name, prompt), name, prompt, solution, answer, entry)
  return Draft(problem, prompt, where)


def _check_programs(drafts: list[Draft]) -> None:
  """BadInput for a program that does not pass its own tests. It is run in the sandbox."""
  problems = [draft.problem for draft in drafts]
  verdicts = verifiers.verify_all(problems, [[problem.solution] for problem in problems])
  for draft, (verdict,) in zip(drafts, verdicts, strict=True):
    if not verdict.correct:
      how = 'fails' if verdict.status == 'ok' else f'ends with {verdict.status} in'
      raise BadInput(f'{draft.origin}: its own solution {how} its tests: mend or remove the line')
