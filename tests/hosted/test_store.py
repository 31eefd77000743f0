"""Completions on disk: what a killed run leaves, and what is read out of it."""

import pytest

from scaling.errors import BadInput
from scaling.hosted import prompts, store
from scaling.hosted.client import Completion

DONE = Completion('é\n"#1"', True, 'stop', 5, 3, 0, 'm', 'r', 0.5)


def test_a_line_half_written_is_cut_off_and_the_next_follows_whole_lines(tmp_path):
  path = store.folder(tmp_path, model='m', seed=0)
  writer = store.Writer(path)
  for sample in range(3):
    writer.add(('p', sample), DONE)
  writer.close()
  file = path / store.NAME
  whole = file.read_bytes()
  file.write_bytes(whole[:-7])  # killed while it wrote
  assert set(store.read(path)) == {('p', 0), ('p', 1)}
  writer = store.Writer(path)
  writer.add(('p', 2), DONE)
  writer.close()
  assert file.read_bytes() == whole
  assert store.read(path)[('p', 2)] == DONE._asdict()


def test_a_line_that_is_no_completion_is_named(tmp_path):
  (tmp_path / store.NAME).write_text('{"key": ["p", 0]}\nnot this\n')
  with pytest.raises(BadInput, match=f'{store.NAME}:2: not a completion'):
    store.read(tmp_path)
  assert store.read(tmp_path / 'nothing') == {}


def test_a_folder_hangs_on_all_that_it_depends_on(tmp_path):
  assert store.folder(tmp_path, a=1, b=2) == store.folder(tmp_path, b=2, a=1)
  assert store.folder(tmp_path, a=1) != store.folder(tmp_path, a=2)


@pytest.mark.parametrize(
  'response, tidied',
  [
    ('so\n#42', 'so\n#42'),
    ('so\n**# 42**\n', 'so\n**#42'),
    ('so\n#42\n\nI hope this helps!', 'so\n#42'),
    ('# Heading\nthen\n#`1, 2`', '# Heading\nthen\n#1, 2'),
    ('no answer', 'no answer'),
    ('ends in #', 'ends in #'),
    ('', ''),
  ],
)
def test_tidy(response, tidied):
  assert prompts.tidy('products', response) == prompts.tidy('math', response) == tidied


@pytest.mark.parametrize(
  'task, response',
  [
    ('math', '# Solution\nso \\boxed{\\frac{1}{2}}\n\nI hope this helps!'),
    ('code', '```python\n# squares\ndef f(n):\n  return n * n\n```'),
    ('responses', '# Summary\nIt rained.\nThen not.'),
    ('messages', '# Summary\nIt rained.\nThen not.'),
  ],
)
def test_what_is_not_read_behind_a_sign_stays_as_it_is(task, response):
  assert prompts.tidy(task, response) == response


def test_the_prompt_holds_the_problem_as_it_is():
  text = '2 {x} \\1 ?\n'
  for task, end in (('products', '#ANSWER'), ('math', '\\boxed{ANSWER}'), ('code', '```')):
    assert prompts.prompt(task, text).startswith('2 {x} \\1 ?\n\n')
    assert prompts.prompt(task, text).endswith(end)
  assert prompts.prompt('responses', text) == text.strip()
