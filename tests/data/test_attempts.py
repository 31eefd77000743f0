"""Examples that show an earlier attempt: right texts, the right loss, and nothing else changed."""

import collections
import itertools
import re

import numpy as np
import pytest

from scaling.data import attempts, batches, pools, tasks
from scaling.data.vocab import CHARACTERS, VOCABS
from scaling.errors import BadInput
from scaling.rewards.verifiers import verify

SPEC = batches.DataSpec(
  task='chain_sum(min_terms=3, max_terms=4, min_digits=2, max_digits=2)', pretrain_tasks=(),
  style='short', vocab='arithmetic', row_tokens=128, seed=3, sft=400, rl=0, validation=20, test=5,
  pretrain=0, attempts=0.5,
)  # fmt: skip


def drawn(task: str, style: str, count: int):
  spec = SPEC._replace(task=task, style=style, vocab='ascii', sft=count, validation=0)
  return [draft.problem for draft in pools.draw(spec)['sft']]


@pytest.mark.parametrize('style', ['short', 'full'])
@pytest.mark.parametrize(
  'task', ['chain_sum', 'basic_arithmetic', 'products(max_digits=3)', 'gcd', 'simple_equations']
)
def test_mistakes_are_wrong_and_look_like_solutions(task, style):
  for seed, problem in enumerate(drawn(task, style, 60)):
    wrong = attempts.mistaken(problem, style, seed)
    assert wrong == attempts.mistaken(problem, style, seed)
    verdict = verify(problem, wrong)
    assert not verdict.correct and verdict.answer is not None
    shape = lambda text: re.sub(r'-?\d+', 'n', text)
    if not task.startswith('basic'):  # an expression may lose a bracket
      assert shape(wrong) == shape(problem.solution)


def equation(step: str) -> bool:
  """Whether 'a+b=c' holds."""
  a, sign, b, result = re.fullmatch(r'(-?\d+)([-+*])(-?\d+)=(-?\d+)', step).groups()
  a, b = int(a), int(b)
  return {'+': a + b, '-': a - b, '*': a * b}[sign] == int(result)


@pytest.mark.parametrize('task', ['chain_sum(min_terms=4, max_terms=5)', 'products(max_digits=3)'])
def test_a_mistake_is_made_once_and_carried_on(task):
  found = collections.Counter()
  for seed, problem in enumerate(drawn(task, 'short', 80)):
    body, _, answer = attempts.mistaken(problem, 'short', seed).rpartition('#')
    steps = body.split(';')
    if not body:
      continue
    false = sum(not equation(step) for step in steps)
    found[false] += 1
    assert steps[-1].endswith(f'={answer}')
    if task.startswith('chain'):
      for one, other in itertools.pairwise(steps):
        assert re.match(r'-?\d+', other)[0] == one.partition('=')[2]
  # a first sum that is not written down may be what is mistaken
  assert set(found) <= {0, 1} and found[1] > 20
  assert (found[0] > 5) == task.startswith('chain')


def test_marks_are_in_no_solution_and_can_be_written():
  marks = attempts.SHORT
  assert all(set(mark) <= set(CHARACTERS['arithmetic']) for mark in marks)
  assert all(len(mark) == 1 for mark in marks[:-1]) and marks.backward == 2 * marks.verify
  for task in ('chain_sum', 'gcd', 'lcm', 'number_sorting', 'simple_equations', 'products'):
    for problem in drawn(task, 'short', 30):
      text = problem.prompt + problem.solution
      assert marks.revise not in text and marks.verify not in text
      assert not {marks.right, marks.wrong} & {problem.solution}
  assert VOCABS['ascii'].missing(''.join(attempts.PLAIN)) is None


def test_the_share_the_forms_and_the_verdicts():
  problems = drawn('chain_sum(min_terms=3, max_terms=3)', 'short', 2000)
  marks, kinds = attempts.SHORT, collections.Counter()
  for problem in problems:
    example = attempts.shown(problem, 'short', 7, 0.4)
    if example == problem:
      kinds['plain'] += 1
      assert attempts.shown(problem, 'short', 7, 0.2) == problem
      continue
    attempt, mark = example.prompt.removeprefix(problem.prompt)[:-1], example.prompt[-1]
    right = verify(problem, attempt).correct
    kinds[mark, right] += 1
    if mark == marks.revise:
      assert example.solution == problem.solution
    else:
      assert example.solution == (marks.right if right else marks.wrong)
    assert (attempt == problem.solution) == right
  assert abs(kinds.pop('plain') / 2000 - 0.6) < 0.05
  assert len(kinds) == 4
  assert all(abs(count / 2000 - 0.1) < 0.03 for count in kinds.values())


def test_conversations_tell_a_wrong_attempt_so_and_ask_again():
  problems = drawn('chain_sum(min_terms=3, max_terms=3)', 'short', 1000)
  vocab, kinds = VOCABS['arithmetic'], collections.Counter()
  for problem in problems:
    example = attempts.corrected(problem, 'short', 7, 0.4)
    if example == problem:
      kinds['plain'] += 1
      continue
    assert example.solution == problem.solution
    ids = vocab.prompt(example.prompt)
    at = ids.index(vocab.stop)
    asked = vocab.encode(problem.prompt)
    assert ids[: len(asked)] == asked and ids.count(vocab.stop) == 1
    wrong, told = vocab.decode(ids[len(asked) : at]), vocab.decode(ids[at + 1 :])
    verdict = verify(problem, wrong)
    assert not verdict.correct and len(told) == 2 and told[1] == '\n'
    if told[0] != 'x':
      assert (told[0] == '+') == (int(problem.answer) > int(verdict.answer))
    kinds[told[0]] += 1
  assert abs(kinds.pop('plain') / 1000 - 0.6) < 0.06
  assert set(kinds) == {'x', '+', '-'} and abs(kinds['x'] / 1000 - 0.2) < 0.05


def test_prepared_rows_hold_conversations_with_the_loss_on_the_last_turn(tmp_path):
  spec = SPEC._replace(attempts=0.0, corrected=0.5, sft=60)
  tasks.prepare(spec, tmp_path / 'data')
  vocab, expected, shown = VOCABS['arithmetic'], collections.Counter(), 0
  for problem in batches.problems(tmp_path / 'data', 'sft'):
    example = attempts.corrected(problem, 'short', spec.seed, 0.5)
    shown += example != problem
    prompt = vocab.prompt(example.prompt)
    response = [*vocab.encode(problem.solution), vocab.stop]
    expected[(*prompt, *response), (False,) * len(prompt) + (True,) * len(response)] += 1
  assert collections.Counter(rows_of(tmp_path / 'data', 'sft')) == expected
  assert batches.load(tmp_path / 'data').counts['sft']['attempts'] == shown > 15
  tasks.prepare(spec, tmp_path / 'data')  # what is there is of this specification


def rows_of(folder, pool):
  rows = batches.packed(folder, pool)
  for tokens, ids, mask in zip(rows.tokens, rows.segment_ids, rows.loss_mask):
    for segment in range(1, ids.max() + 1):
      at = ids == segment
      yield tuple(tokens[at].tolist()), tuple(mask[at].tolist())


def test_prepared_rows_show_some_backwards_with_the_loss_on_the_prompt(tmp_path):
  spec = SPEC._replace(attempts=0.0, reversed=0.5)
  tasks.prepare(spec, tmp_path / 'data')
  vocab, found = VOCABS['arithmetic'], collections.Counter(rows_of(tmp_path / 'data', 'sft'))
  problems = batches.problems(tmp_path / 'data', 'sft')
  back = 0
  for problem in problems:
    plain = vocab.encode(problem.prompt), [*vocab.encode(problem.solution), vocab.stop]
    other = vocab.encode(problem.solution + '::'), [*vocab.encode(problem.prompt), vocab.stop]
    keys = [((*a, *b), (False,) * len(a) + (True,) * len(b)) for a, b in (plain, other)]
    assert found[keys[0]] + found[keys[1]] == 1
    back += found[keys[1]]
  assert abs(back / len(problems) - 0.5) < 0.1
  assert batches.load(tmp_path / 'data').counts['sft']['attempts'] == back


def test_prepared_rows_have_them_with_the_loss_on_the_response_alone(tmp_path):
  tasks.prepare(SPEC, tmp_path / 'data')
  vocab, direct, shown = VOCABS['arithmetic'], collections.Counter(), 0
  problems = batches.problems(tmp_path / 'data', 'sft')
  for problem in problems:
    example = attempts.shown(problem, 'short', SPEC.seed, SPEC.attempts)
    shown += example != problem
    prompt = vocab.encode(example.prompt)
    response = [*vocab.encode(example.solution), vocab.stop]
    direct[(*prompt, *response), (False,) * len(prompt) + (True,) * len(response)] += 1
  assert collections.Counter(rows_of(tmp_path / 'data', 'sft')) == direct
  counts = batches.load(tmp_path / 'data').counts
  assert counts['sft']['attempts'] == shown and 150 < shown < 250
  assert all('\n' not in problem.prompt for problem in problems)  # as they were drawn

  plain = SPEC._replace(attempts=0.0)
  tasks.prepare(plain, tmp_path / 'plain')
  held_out = [batches.packed(tmp_path / name, 'validation') for name in ('data', 'plain')]
  assert all(np.array_equal(a, b) for a, b in zip(*held_out))
  assert batches.problems(tmp_path / 'plain', 'sft') == problems
  assert 'attempts' not in batches.load(tmp_path / 'plain').counts['sft']


def test_examples_longer_than_a_row(tmp_path):
  """60 columns hold every plain example, and not all of those with an attempt."""
  tight = SPEC._replace(row_tokens=60, sft=100)
  with pytest.raises(
    BadInput, match=r'with an earlier attempt \(data\.attempts = 0\.5\) its prompt'
  ):
    tasks.prepare(tight, tmp_path / 'error')
  assert not (tmp_path / 'error').exists()
  said = []
  tasks.prepare(tight._replace(long_examples='drop'), tmp_path / 'drop', said.append)
  (line,) = [line for line in said if 'without an attempt' in line]
  counts = batches.load(tmp_path / 'drop').counts['sft']
  chosen = sum(
    attempts.shown(problem, 'short', SPEC.seed, SPEC.attempts) != problem
    for problem in batches.problems(tmp_path / 'drop', 'sft')
  )
  assert counts['problems'] == 100 and 0 < counts['attempts'] < chosen
  assert int(line.split()[0]) == chosen - counts['attempts']
  with pytest.raises(BadInput, match=r'data\.attempts is 1\.5: it must be in \[0, 1\]'):
    pools.check_spec(SPEC._replace(attempts=1.5))


def test_other_styles_show_them_in_sentences(tmp_path):
  spec = SPEC._replace(style='full', vocab='ascii', row_tokens=400, sft=60)
  tasks.prepare(spec, tmp_path / 'data')
  texts = [VOCABS['ascii'].decode(tokens) for tokens, _ in rows_of(tmp_path / 'data', 'sft')]
  asked = [text for text in texts if attempts.PLAIN.verify in text]
  assert asked and {text.rpartition('\n')[2] for text in asked} == {'yes', 'no'}
  assert any(attempts.PLAIN.revise in text for text in texts)
