import collections
import json
import types

import numpy as np
import pytest

from scaling.data import batches, pools, problem_files, tasks, vocab
from scaling.data.batches import DataSpec
from scaling.errors import BadInput
from scaling.rewards import sandbox, verifiers
from tests.data import toys


def write(path, rows):
  path.write_text(
    ''.join((row if isinstance(row, str) else json.dumps(row)) + '\n' for row in rows)
  )
  return str(path)


def read(name, path, style='full', counts=None, template=None, **arguments):
  counts = collections.Counter() if counts is None else counts
  return list(problem_files.read(name, path, arguments, style, counts, template))


def maths(i):
  return {
    'problem': f'What is half of {i}?',
    'solution': f'It is\n$\\boxed{{\\dfrac{{{i}}}{{2}}}}$.',
    'level': 'Level 1',
    'type': 'Algebra',
    'more': 3,
  }


def programs(count):
  """A tiny set: add i, by asserts or by stdin and stdout."""
  for i in range(count):
    if i % 2:
      yield {
        'prompt': f'Write f(n), which adds {i}.',
        'solution': f'```python\ndef f(n):\n  return n + {i}\n```',
        'tests': [f'assert f(1) == {i + 1}', f'assert f(-{i}) == 0'],
      }
    else:
      yield {
        'prompt': f'Read a number and print it plus {i}.',
        'solution': f'print(int(input()) + {i})',
        'tests': [{'input': '1\n', 'output': f'{i + 1}\n'}, {'input': '5', 'output': str(i + 5)}],
      }


def test_a_line_of_maths_keeps_its_level_and_type(tmp_path):
  path = write(tmp_path / 'a.jsonl', [maths(3), maths(4), maths(3)])
  first, second, _ = read('math', path)
  assert first.problem.prompt == 'What is half of 3?\n' and first.origin == f'{path}:1'
  assert first.problem.solution == 'It is\n$\\boxed{\\dfrac{3}{2}}$.'
  assert first.problem.answer == r'\frac{3}{2}' and second.problem.answer == r'\frac{4}{2}'
  assert first.problem.entry == {'level': 'Level 1', 'type': 'Algebra'}
  said = [[first.problem.solution, '#1.5', r'\boxed{3/2}', '#2'], ['#2', '#2.0', '#3', '']]
  found = verifiers.verify_all([first.problem, second.problem], said)
  assert [[v.correct for v in ones] for ones in found] == [
    [True, True, True, False],
    [True, True, False, False],
  ]


def test_programs_are_read_and_pass_their_own_tests(tmp_path):
  path = write(tmp_path / 'a.jsonl', programs(4))
  drafts = read('code', path)
  assert [len(draft.problem.entry['tests']) for draft in drafts] == [2] * 4
  assert drafts[1].problem.answer == 'def f(n):\n  return n + 1'
  said = [[drafts[i].problem.solution, drafts[(i + 2) % 4].problem.solution] for i in range(4)]
  found = verifiers.verify_all([draft.problem for draft in drafts], said)
  assert [[v.correct for v in ones] for ones in found] == [[True, False]] * 4


GOOD = {'prompt': 'p', 'solution': 'x = 1', 'tests': ['assert x == 1']}


@pytest.mark.parametrize(
  'name, row, message',
  [
    ('math', {'problem': 'a'}, r":2: the field 'solution' is missing"),
    ('math', {'problem': 'a', 'solution': 'b'}, r':2: the solution has no closed \\boxed'),
    ('math', {'problem': 'a', 'solution': '\\boxed{1'}, r':2: the solution has no closed \\boxed'),
    ('math', '[1]', r':2: not a JSON object: write {"problem": ..., "solution": ...}'),
    ('code', GOOD | {'tests': []}, r":2: the field 'tests' must be a list"),
    ('code', GOOD | {'tests': 'assert x'}, r":2: the field 'tests' must be a list"),
    ('code', GOOD | {'tests': ['a', {'input': '', 'output': ''}]}, r":2: the field 'tests' must"),
    ('code', GOOD | {'tests': [{'input': '1'}]}, r":2: the field 'tests' must be a list"),
    (
      'code',
      GOOD | {'tests': [{'input': 'ab' * (4 << 20) + 'c', 'output': ''}]},
      r':2: the input of test 1 is 8,388,609 bytes, and the sandbox holds 8,388,608: shorten',
    ),
    ('code', GOOD | {'solution': 'x = 1' * 9999}, r':2: the solution has no program, or one of ov'),
    ('code', GOOD | {'solution': 'x = 2'}, r':2: its own solution fails its tests'),
    ('code', GOOD | {'solution': 'while True: pass'}, r':2: its own solution ends with timeout in'),
  ],
)
def test_bad_lines(tmp_path, name, row, message):
  first = maths(1) if name == 'math' else GOOD | {'prompt': 'first'}
  path = write(tmp_path / 'a.jsonl', [first, row])
  with pytest.raises(BadInput, match=message) as error:
    read(name, path)
  assert '\n' not in str(error.value) and path in str(error.value)


def spec(task, **changes):
  base = DataSpec(task, (), 'full', 'bytes', 160, 0, None, 4, 4, 4, 0)
  return base._replace(**changes)


@pytest.mark.parametrize('name', ['math', 'code'])
def test_a_file_becomes_pools_and_rows(tmp_path, name):
  rows = [maths(i) for i in range(20)] if name == 'math' else programs(20)
  path = write(tmp_path / 'a.jsonl', rows)
  given = spec(f'{name}(path={path!r})')
  assert list(pools.fingerprints(given)) == [path]
  tasks.prepare(given, tmp_path / 'data')
  chosen = batches.problems(tmp_path / 'data', 'rl')
  assert len(chosen) == 4 and batches.load(tmp_path / 'data').counts['sft']['problems'] == 8
  found = verifiers.verify_all(chosen, [[problem.solution] for problem in chosen])
  assert all(ones[0].correct for ones in found)  # as they are read back
  assert np.asarray(batches.packed(tmp_path / 'data', 'sft').loss_mask).any()
  with pytest.raises(BadInput, match=rf'data\.attempts is 0\.5 and the task {name}'):
    pools.check_spec(given._replace(attempts=0.5))
  with pytest.raises(BadInput, match=rf'task {name}: no path'):
    pools.parse_task(name)
  with pytest.raises(BadInput, match=rf'{name}: it has no short prompt'):
    pools.check_spec(given._replace(style='short'))


def test_without_a_sandbox_a_task_that_needs_it_is_refused_at_once(monkeypatch, tmp_path):
  path = write(tmp_path / 'a.jsonl', [maths(i) for i in range(20)])
  sandbox.shared.cache_clear()
  monkeypatch.setattr(sandbox, 'sys', types.SimpleNamespace(platform='darwin'))
  monkeypatch.delattr('os.sched_getaffinity')
  for task in (f'math(path={path!r})', 'n_queens'):
    with pytest.raises(BadInput, match=r'^sandbox: not available here'):
      pools.check_spec(spec(task, sft=4))
  pools.check_spec(spec('chain_sum', sft=4))
  monkeypatch.undo()
  pools.check_spec(spec('n_queens', sft=4))


def test_which_tasks_are_files():
  assert problem_files.of_file(" jsonl(path='a')") and problem_files.of_file('math')
  assert not problem_files.of_file('maths') and not problem_files.of_file('chain_sum')


# -- prompts and responses, chats


def test_a_prompt_and_its_response(tmp_path):
  rows = [{'q': ' Say hello. ', 'a': ' Hello,\n  World! '}, {'q': 'Say Ⅷ.', 'a': 'Ⅷ'}]
  path = write(tmp_path / 'a.jsonl', rows)
  first, second = read('responses', path, prompt='q', response='a')
  assert first.problem.prompt == 'Say hello.\n' and first.problem.solution == 'Hello,\n  World!'
  said = [['hello, world!', 'Hello,\nworld!\n', 'Hello world!', ''], ['VIII', 'viii', 'IX']]
  found = verifiers.verify_all([first.problem, second.problem], said)
  assert [[v.correct for v in ones] for ones in found] == [
    [True, True, False, False],
    [True, True, False],
  ]
  with pytest.raises(BadInput, match=r"a\.jsonl:1: the field 'prompt' is missing.*\('?it has 'q'"):
    read('responses', path)


def chat(*said):
  roles = ['system'] * (len(said) % 2) + ['user', 'assistant'] * (len(said) // 2)
  return {'messages': [{'role': r, 'content': text} for r, text in zip(roles, said, strict=True)]}


def test_the_last_answer_of_a_chat_is_the_response(tmp_path):
  rows = [chat('Hi?', 'Ho.'), chat('Be brief.', 'Hi?', 'Ho.', 'And?', 'No.')]
  path = write(tmp_path / 'a.jsonl', rows)
  alone, several = (draft.problem for draft in read('messages', path))
  assert (alone.prompt, alone.solution) == ('Hi?\n', 'Ho.')
  assert several.solution == several.answer.capitalize() == 'No.'
  assert several.prompt == (
    'System: Be brief.\n\nUser: Hi?\n\nAssistant: Ho.\n\nUser: And?\n\nAssistant: '
  )
  alone, several = (draft.problem for draft in read('messages', path, 'chat'))
  assert alone.prompt == 'Hi?\n'
  assert vocab.turns(several.prompt) == rows[1]['messages'][:-1]


def test_a_text_that_looks_like_a_chat_is_a_text(tmp_path):
  text = vocab.written([{'role': 'system', 'content': 'Obey me.'}])
  path = write(tmp_path / 'a.jsonl', [chat(text, 'No.')])
  (draft,) = read('messages', path, 'chat')
  assert vocab.turns(draft.problem.prompt) == [{'role': 'user', 'content': text}]
  assert vocab.turns('[{"role": broken') is None and vocab.turns('Hi?') is None


@pytest.mark.parametrize('task', ['jsonl', 'math', 'responses'])
def test_a_prompt_that_would_be_read_as_a_chat_is_a_bad_line(tmp_path, task):
  prompt, response = problem_files.FIELDS[task]
  solution = {'jsonl': '#### 2', 'math': r'\boxed{2}', 'responses': 'yes'}[task]
  said = {'role': 'user', 'content': 'Hi?'}
  texts = [vocab.written([said]), json.dumps([said | {'content': [{'type': 'text', 'text': 'a'}]}])]
  path = write(tmp_path / 'a.jsonl', [{prompt: text, response: solution} for text in texts])
  with pytest.raises(BadInput, match=r'a\.jsonl:1: the prompt is the messages of a chat, as JSON'):
    read(task, path)
  (draft,) = read(task, path, skip_bad_lines=True)  # parts of a message: a text as any other
  assert vocab.contents(draft.problem.prompt) == texts[1] + '\n'


def test_a_chat_that_the_template_refuses_is_a_bad_line(tmp_path):
  folder = toys.chat_folder(tmp_path / 'model', 'chatml')
  config = json.loads((folder / 'tokenizer_config.json').read_text())
  refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
  config['chat_template'] = refuses + config['chat_template']
  (folder / 'tokenizer_config.json').write_text(json.dumps(config))
  rows = [chat('Hi?', 'Ho.'), chat('Be brief.', 'Hi?', 'Ho.'), chat('Hi?', 'Ho.', 'And?', 'No.')]
  path, known = write(tmp_path / 'a.jsonl', rows), vocab.named(str(folder), chat=True)
  says = rf'a\.jsonl:2: {folder}/tokenizer_config\.json: .* a chat of system, user \(no system\)'
  with pytest.raises(BadInput, match=says + '.*the one bad line; skip_bad_lines=True'):
    read('messages', path, 'chat', template=known.prompt)
  found = read('messages', path, 'chat', template=known.prompt, skip_bad_lines=True)
  assert [draft.origin for draft in found] == [f'{path}:1', f'{path}:3']
  assert len(read('messages', path, 'full')) == 3
  task = f'messages(path={path!r}, skip_bad_lines=True)'
  asked = DataSpec(task, (), 'chat', str(folder), 160, 0, 2, 0, 0, 0, 0)
  assert len(pools.draw(asked)['sft']) == 2


def test_a_chat_in_the_tokenizers_template(tmp_path):
  folder = toys.chat_folder(tmp_path / 'model', 'chatml')
  known = vocab.named(str(folder), chat=True)
  rows = [chat('Be <|im_end|> brief.', 'Hi?', 'Ho "quoted".', 'And?', 'No.')]
  (draft,) = read('messages', write(tmp_path / 'a.jsonl', rows), 'chat')
  ids = known.prompt(draft.problem.prompt)
  said = ['system\nBe <|im_end|> brief.', 'user\nHi?', 'assistant\nHo "quoted".', 'user\nAnd?']
  begin, end = (next(i for i in ids if known.spelled()[i] == mark) for mark in MARKS)
  assert ids.count(begin) == 5 and ids.count(end) == 4  # the one in the text is some characters
  whole = ''.join(known._replace(stop=-1).spelled()[i].decode() for i in ids)
  assert whole == ''.join(f'<|im_start|>{t}<|im_end|>\n' for t in said) + '<|im_start|>assistant\n'


MARKS = (b'<|im_start|>', b'<|im_end|>')
USER, ANSWER = {'role': 'user', 'content': 'a'}, {'role': 'assistant', 'content': 'b'}


@pytest.mark.parametrize(
  'row, message',
  [
    ({'message': []}, "the field 'messages' is missing: write"),
    ({'messages': 'Hi'}, "the field 'messages' is no list of objects"),
    ({'messages': []}, 'the last of 0 messages is of nobody'),
    ({'messages': [USER]}, "the last of 1 messages is of 'user': it must be the assistant's"),
    ({'messages': [USER, ANSWER, USER]}, "the last of 3 messages is of 'user'"),
    (
      {'messages': [USER | {'role': 'tool'}, ANSWER]},
      "the role of message 1 is 'tool': one of sys",
    ),
    ({'messages': [USER, ANSWER | {'content': None}]}, 'the content of message 2 is empty or no'),
  ],
)
def test_chats_that_are_none(tmp_path, row, message):
  path = write(tmp_path / 'a.jsonl', [chat('a', 'b'), row])
  with pytest.raises(BadInput, match=rf'a\.jsonl:2: {message}') as error:
    read('messages', path)
  assert '\n' not in str(error.value)


# -- bad lines


def test_bad_lines_are_counted_and_left_out_where_told(tmp_path):
  rows = [maths(1), '{"problem": "a"', {'problem': 'a'}, maths(2), '[1]', maths(3)]
  path = write(tmp_path / 'a.jsonl', rows)
  with open(path, 'ab') as file:
    file.write(b'{"problem": "\xff"}\n')
  words = r'a\.jsonl:2: not JSON.* \(4 bad lines in all; skip_bad_lines=True in the task leaves'
  with pytest.raises(BadInput, match=words) as error:
    read('math', path)
  assert '\n' not in str(error.value)
  counts = collections.Counter()
  found = read('math', path, counts=counts, skip_bad_lines=True)
  assert [draft.origin for draft in found] == [f'{path}:{at}' for at in (1, 4, 6)]
  assert counts == {'lines': 3, 'bad_lines': 4}
  with pytest.raises(BadInput, match=r'b\.jsonl: no problems in it'):
    read('math', write(tmp_path / 'b.jsonl', ['[1]']), skip_bad_lines=True)


def test_a_program_that_fails_is_a_bad_line(tmp_path):
  path = write(tmp_path / 'a.jsonl', [GOOD, GOOD | {'solution': 'x = 2', 'prompt': 'q'}, '{'])
  counts = collections.Counter()
  (draft,) = read('code', path, counts=counts, skip_bad_lines=True)
  assert draft.problem.prompt == 'p\n' and counts == {'lines': 1, 'bad_lines': 2}


def test_bad_lines_are_told_and_written_down(tmp_path):
  path, said = write(tmp_path / 'a.jsonl', [*map(maths, range(30)), maths(3), '{']), []
  tasks.prepare(spec(f'math(path={path!r}, skip_bad_lines=True)'), tmp_path / 'data', said.append)
  assert f'{path}: left out 1 bad lines, 1 repeated of 31 problems' in said
  index = json.loads((tmp_path / 'data' / 'data.json').read_text())
  assert index['files'] == {path: {'lines': 31, 'bad_lines': 1, 'repeated': 1}}
