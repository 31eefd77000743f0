"""Problems read from files. A row of each format:

    jsonl      {"question": "...", "answer": "...\\n#### 72"}        GSM8K's (2110.14168)
    math       {"problem": "...", "solution": "... \\\\boxed{72}"}    MATH's (2103.03874); its
               level and type (or subject) are kept
    code       {"prompt": "...", "solution": "...", "tests": [...]}  a program and its tests
    responses  {"prompt": "...", "response": "..."}                  under any names
    messages   {"messages": [{"role": "user", "content": "..."}, ...]}   a chat

A test is a text of Python that is run after the program, in its names (`assert f(2) == 4`), or
{"input": "...", "output": "..."}: what the program reads from stdin, and must write to stdout. All
tests of a line are of one kind.

Of a chat the assistant's last message is the response, and all before it the prompt: in style
'chat' as the tokenizer's own template has its turns, else as text (`transcript`). The answer of
'responses' and 'messages' is the whole response: a verdict is an exact match of the text, up to
case, space and Unicode's NFKC.

A prompt that comes again is one problem, which has its first response (where long examples are left
out, the first that fits a row); SFT learns up to `per_prompt` distinct responses of each of its
prompts, where a task says so.

Files are JSONL, JSONL.gz, Parquet or data sets of TFDS: see sources.py.
"""

import functools
import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from scaling.data import sources
from scaling.data import vocab as vocabs
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import verifiers

OF_ALL = {'path': str, 'test_path': str, 'skip_bad_lines': bool, 'per_prompt': int}
ARGUMENTS = {  # of a task that is a file
  'jsonl': OF_ALL | {'keep_marks': bool},
  'math': OF_ALL,
  'code': OF_ALL,
  'responses': OF_ALL | {'prompt': str, 'response': str},  # the names of the two fields
  'messages': OF_ALL,
}
FIELDS = {
  'jsonl': ('question', 'answer'),
  'math': ('problem', 'solution'),
  'code': ('prompt', 'solution'),
  'responses': ('prompt', 'response'),
  'messages': ('messages',),
}
KEPT = ('level', 'type', 'subject')  # of a problem of 'math'
ROLES = ('system', 'user', 'assistant')
SURROGATES = re.compile('[\ud800-\udfff]')
PROGRAMS = 256  # that are run at a time


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


def number(id: str) -> int:
  """The hash in the id of a problem: of its key alone, whatever its task."""
  return int(id.rpartition('-')[2], 16)


def named(name: str, number: int) -> str:
  """The id that has this `number`."""
  return f'{name}-{number:016x}'


def read(
  name: str, path: str, arguments: dict, style: str, counts: Counter, prompt: Callable | None = None
) -> Iterator[Draft]:
  """Yields the problems of a file, in the format of task `name`, with the task's arguments.

  prompt: `Vocab.prompt` of style 'chat', for which a chat that the template refuses is a bad line.
  counts gets 'lines', those with a problem, and 'bad_lines'. A bad one (no line of the format, or a
  program that fails its own tests, say) is left out where the task says skip_bad_lines=True.
  Else all are read, to count them, and BadInput names the first by file and line; as it does for a
  file with no problem in it.
  """
  skip, first = arguments.get('skip_bad_lines', False), None
  drafts = _drafts(name, path, arguments, style, prompt)
  for found in _checked(drafts) if name == 'code' else drafts:
    if isinstance(found, BadInput):
      counts['bad_lines'] += 1
      first = first or found
    else:
      counts['lines'] += 1
      if skip or first is None:
        yield found
  if first is not None and not skip:
    bad = counts['bad_lines']
    many = f'{bad} bad lines in all' if bad > 1 else 'the one bad line'
    raise BadInput(f'{first} ({many}; skip_bad_lines=True in the task leaves such lines out)')
  if not counts['lines']:
    raise BadInput(f'{path}: no problems in it: it needs a line for each')


def _drafts(
  name: str, path: str, arguments: dict, style: str, prompt: Callable | None
) -> Iterator[Draft | BadInput]:
  """What is in each line of a file: a problem, or what is wrong with it."""
  fields = FIELDS[name]
  if name == 'responses':
    fields = tuple(arguments.get(field, field) for field in fields)
  more = {'math': KEPT, 'code': ('tests',)}.get(name, ())
  for where, line in sources.rows(path, (*fields, *more)):
    try:
      row = json_object(line, where, fields) if isinstance(line, bytes) else line
      if name == 'messages':
        yield _chat(row, style, where, prompt)
        continue
      _check_texts(row, fields, where)
      if name == 'jsonl':
        yield _gsm8k(row, arguments.get('keep_marks', False), where)
      elif name == 'responses':
        text, response = (row[field] for field in fields)
        yield _of_texts('responses', _prompt(text, where), response, where)
      else:
        yield {'math': _math, 'code': _code}[name](row, where)
    except BadInput as error:
      yield error


def json_object(line: bytes, where: str, fields: tuple[str, ...]) -> dict:
  """The JSON object of a line. BadInput, naming the place and the first two of the fields that it
  should have, where it is none."""
  try:
    row = json.loads(line.decode('utf-8-sig'))
  except UnicodeDecodeError as error:
    byte = f'byte {error.start + 1} of the line is 0x{line[error.start]:02x}'
    raise BadInput(f'{where}: not UTF-8: save the file as UTF-8 ({byte})') from None
  except (ValueError, RecursionError) as error:
    reason = getattr(error, 'msg', 'too deep or too large')
    raise BadInput(f'{where}: not JSON ({reason}): mend or remove the line') from None
  if not isinstance(row, dict):
    form = ', '.join(f'"{field}": ...' for field in fields[:2])
    raise BadInput(f'{where}: not a JSON object: write {{{form}}}, one a line ({_found(row)})')
  return row


def _check_texts(row: dict, fields: tuple[str, ...], where: str) -> None:
  """BadInput, with what is there, for an object whose `fields` are not all texts."""
  for field in fields:
    if field not in row:
      has = f'it has {", ".join(map(repr, list(row)[:6]))}' if row else 'it has none'
      raise BadInput(
        f'{where}: the field {field!r} is missing: every line needs it, a text ({has})'
      )
    _check_text(row[field], f'the field {field!r}', where)


def _check_text(value, what: str, where: str) -> None:
  if isinstance(value, bytes):
    raise BadInput(f'{where}: {what} is not UTF-8: mend it')
  if not isinstance(value, str) or not value.strip():
    raise BadInput(
      f'{where}: {what} is empty or no text: every line needs it, a text ({_found(value)})'
    )
  if not value.isascii() and SURROGATES.search(value):
    raise BadInput(f'{where}: {what} has half a surrogate pair: mend the text')


def _found(value) -> str:
  """A value of JSON, for a message."""
  text = json.dumps(value, default=str)
  return f'it is {text}' if len(text) <= 40 else f'it is {text[:40]}…'


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
  most = verifiers.LIMITS['code'].scratch_bytes
  for at, test in enumerate(() if texts else tests, 1):
    size = len(test['input'].encode(errors='surrogatepass'))
    if size > most:
      raise BadInput(f'{where}: the input of test {at} is {size:,} bytes, and the sandbox holds '
                     f'{most:,}: shorten it or remove the line')  # fmt: skip
  answer = verifiers.program(row['solution'])
  if answer is None:
    raise BadInput(f'{where}: the solution has no program, or one of over '
                   f'{verifiers.MAX_PROGRAM:,} characters: mend or remove the line')  # fmt: skip
  return _draft('code', row['prompt'], row['solution'].strip('\n'), answer, {'tests': tests}, where)


def _draft(name: str, text: str, solution: str, answer: str, entry: dict, where: str) -> Draft:
  prompt = _prompt(text, where)
  problem = Problem(identity(name, prompt), name, prompt, solution, answer, entry)
  return Draft(problem, prompt, where)


def _prompt(text: str, where: str) -> str:
  """A text as a prompt. BadInput for the messages of a chat, which a prompt would be read as."""
  if vocabs.turns(text.strip()) is not None:
    raise BadInput(
      f'{where}: the prompt is the messages of a chat, as JSON: write chats as the task messages '
      'has them, or other text before these'
    )
  return text.strip() + '\n'


def _of_texts(name: str, prompt: str, response: str, where: str) -> Draft:
  """A problem whose answer is its whole response."""
  response = response.strip()
  answer = verifiers.canonical(name, response)
  return Draft(Problem(identity(name, prompt), name, prompt, response, answer, {}), prompt, where)


def _chat(row: dict, style: str, where: str, template: Callable | None) -> Draft:
  messages = row.get('messages')
  form = '[{"role": "user", "content": ...}, {"role": "assistant", "content": ...}]'
  if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
    state = 'missing' if 'messages' not in row else 'no list of objects'
    raise BadInput(f"{where}: the field 'messages' is {state}: write {form}")
  if len(messages) < 2 or messages[-1].get('role') != 'assistant':
    last = repr(messages[-1].get('role')) if messages else 'nobody'
    raise BadInput(
      f"{where}: the last of {len(messages)} messages is of {last}: it must be the assistant's "
      f'answer to those before it, as in {form}'
    )
  for at, message in enumerate(messages, 1):
    if message.get('role') not in ROLES:
      raise BadInput(
        f'{where}: the role of message {at} is {message.get("role")!r}: one of {", ".join(ROLES)}'
      )
    _check_text(message.get('content'), f'the content of message {at}', where)
  turns = [{'role': one['role'], 'content': one['content'].strip()} for one in messages[:-1]]
  alone = len(turns) == 1 and turns[0]['role'] == 'user'
  if alone and vocabs.turns(turns[0]['content']) is None:
    prompt = turns[0]['content'] + '\n'
  else:
    refused = template and _refused(template, tuple(one['role'] for one in turns))
    if refused:
      raise BadInput(f'{where}: {refused}')
    prompt = vocabs.written(turns) if style == 'chat' else transcript(turns)
  return _of_texts('messages', prompt, messages[-1]['content'], where)


@functools.lru_cache(1024)
def _refused(template: Callable, roles: tuple[str, ...]) -> str | None:
  """Why a template takes no messages of these roles, in this order; None where it does."""
  try:
    template(vocabs.written([{'role': role, 'content': 'Hi'} for role in roles]))
  except BadInput as error:
    return str(error)


def transcript(turns: list[dict]) -> str:
  """Messages as text, for a tokenizer without a template: 'User: ...\\n\\nAssistant: ...'."""
  said = [f'{one["role"].capitalize()}: {one["content"]}' for one in turns]
  return '\n\n'.join([*said, 'Assistant:']) + ' '


def asked(problem: Problem) -> str:
  """The words of a prompt by which near-duplicates are told: of a chat all but the system's."""
  prompt, turns = problem.prompt, vocabs.turns(problem.prompt)
  if turns is not None:
    said = '\n'.join(one['content'] for one in turns if one['role'] != 'system')
    return said or vocabs.contents(prompt)
  if problem.task == 'messages' and prompt.startswith('System: '):
    return prompt.partition('\n\nUser: ')[2] or prompt
  return prompt


def _checked(drafts: Iterator[Draft | BadInput]) -> Iterator[Draft | BadInput]:
  """The drafts of programs, where one does not pass its own tests what is wrong with it."""
  while some := list(itertools.islice(drafts, PROGRAMS)):
    problems = [draft.problem for draft in some if not isinstance(draft, BadInput)]
    verdicts = verifiers.verify_all(problems, [[problem.solution] for problem in problems])
    verdicts = iter(verdicts)
    for draft in some:
      if isinstance(draft, BadInput):
        yield draft
        continue
      (verdict,) = next(verdicts)
      how = 'fails' if verdict.status == 'ok' else f'ends with {verdict.status} in'
      wrong = f'{draft.origin}: its own solution {how} its tests: mend or remove the line'
      yield draft if verdict.correct else BadInput(wrong)
