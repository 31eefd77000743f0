"""Every gold answer passes, every perturbed one fails, and nothing that is answered is run."""

import builtins
import collections
import functools
import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import pools, problem_files
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import untrusted, verifiers
from scaling.rewards.verifiers import number, number_list, verify

GSM8K = pathlib.Path(__file__).parents[2] / '../shared/data/gsm8k'
N = 100


@functools.cache
def problems(task):
  dataset = pools._dataset(pools.Task(task, {}), 5, N)
  drafts = [pools.draft_of(task, dataset[i], 'full') for i in range(N)]
  return [draft.problem for draft in drafts if draft]


def perturbed_numbers(answer):
  """Other numbers that look like this one."""
  whole, _, fraction = answer.partition('.')
  value = int(whole)
  yield from (f'{value + change}{"." * bool(fraction)}{fraction}' for change in (1, -1, 10, -100))
  yield from (answer + '1' if fraction else answer + '0.1', f'{answer}e1', f'1{answer.lstrip("-")}')
  if answer != '0':
    yield answer[1:] if answer.startswith('-') else f'-{answer}'
    yield f'{value * 10}' if not fraction else answer.replace('.', '')
  yield from ('', 'x', f'{answer} {answer}', f'{answer} or 3', f'{answer}/2', f'{answer} thousand')


def perturbed(problem):
  kind = 'number' if problem.task == 'jsonl' else verifiers.ADMITTED[problem.task].kind
  if kind == 'number':
    return [text for text in perturbed_numbers(problem.answer) if text != problem.answer]
  if kind == 'list':
    items = json.loads(problem.entry['answer'])
    nudged = [str(float(items[0]) + 0.01), *items[1:]]
    other = [items[::-1], items[1:], items + items[-1:], [*items[:-1], '7.77'], nudged, []]
    return [str(some) for some in other if some != items]
  text = problem.answer
  return [text[:-1], text + 'Q', text[1:], '~' + text[1:], '', text[:1] + '~' + text[2:]]


@pytest.mark.parametrize('task', verifiers.ADMITTED)
def test_gold_passes_and_perturbed_fails(task):
  assert len(problems(task)) > 0.9 * N
  for problem in problems(task):
    assert verify(problem, problem.solution) == (True, problem.answer, 'ok')
    for text in perturbed(problem):
      assert not verify(problem, f'1+1=2;#{text}').correct, (problem, text)


@pytest.mark.skipif(not GSM8K.is_dir(), reason='no shared/data/gsm8k beside the project')
@pytest.mark.parametrize('split', ['train', 'test'])
def test_gsm8k_gold_passes_and_perturbed_fails(split):
  drafts = list(
    problem_files.read('jsonl', str(GSM8K / f'{split}.jsonl'), {}, 'full', collections.Counter())
  )
  assert len(drafts) == {'train': 7473, 'test': 1319}[split]
  for draft in drafts:
    assert verify(draft.problem, draft.problem.solution).correct
    for text in perturbed(draft.problem):
      assert not verify(draft.problem, f'so #### {text}').correct, (draft.problem, text)


@pytest.mark.parametrize(
  'text, expected',
  [
    ('72', '72'),
    (' 72.0 ', '72'),
    ('72.', '72'),
    ('+072', '72'),
    ('1,234.50', '1234.5'),
    ('$1,234,567', '1234567'),
    ('-$5', '-5'),
    ('$-5', '-5'),
    ('-0.0', '0'),
    ('.5', '0.5'),
    ('50%', '50'),
    ('72 clips.', '72'),
    ('60 miles/hour', '60'),
    ('9' * 3000, '9' * 3000),
    ('1,23', None),
    ('1234,567', None),
    ('1,2345', None),
    ('7 2', None),
    ('--7', None),
    ('5 million', None),
    ('5k', None),
    ('3/4', None),
    ('1e9', None),
    ('1_000', None),
    ('nan', None),
    ('inf', None),
    ('0x10', None),
    ('٣', None),
    ('７２', None),
    ('²', None),
    ('', None),
    ('.', None),
    ('$', None),
  ],
)
def test_numbers(text, expected):
  assert number(text) == expected


@given(st.decimals(-(10**12), 10**12, places=3), st.booleans())
def test_equal_numbers_are_one_class(value, commas):
  plain = number(str(value))
  assert number(f'{value:,}' if commas else f'{value}000') == plain
  assert float(plain) == float(value)
  assert number(plain) == plain


def test_lists():
  assert number_list("['97.9', '48.0', '-3']") == "['97.9', '48', '-3']"
  assert number_list('97.90,48, -3.0') == "['97.9', '48', '-3']"
  for text in ('', '[]', '1,,2', '1 2', '[1', "['1]", '[[1]]', '1,nan', '1,2 apples'):
    assert number_list(text) is None, text


def jsonl(answer='72'):
  return Problem('jsonl-1', 'jsonl', 'q\n', f'a\n#### {answer}', answer, {})


def test_the_answer_is_what_follows_the_last_mark():
  assert verify(jsonl(), '#71 no #### 72') == (True, '72', 'ok')
  assert verify(jsonl(), '#72 no #71') == (False, '71', 'ok')
  assert verify(jsonl(), '72') == (False, None, 'ok')
  assert verify(jsonl(), '#72#') == (False, None, 'ok')
  assert verify(jsonl(), '# \n') == (False, None, 'ok')
  assert verify(jsonl(), '') == (False, None, 'ok')
  assert verify(jsonl('1234.5'), '#$1,234.50 dollars') == (True, '1234.5', 'ok')


def test_partial_credit_is_not_correct():
  problem = problems('spell_backward')[0]
  score = untrusted.scorer('spell_backward')(problem.answer[:-1] + '~', problem.entry)
  assert 0 < score < 1
  assert verify(problem, f'#{problem.answer[:-1]}~') == (False, f'{problem.answer[:-1]}~', 'ok')


def test_a_scorer_that_raises_is_not_correct(monkeypatch):
  def raises(text, entry):
    raise ZeroDivisionError

  problem = problems('chain_sum')[0]  # drawn before the patch: drawing scores, too
  monkeypatch.setattr(untrusted, 'scorer', lambda task: raises)
  assert verify(problem, problem.solution) == (False, problem.answer, 'error')


MALICE = [
  "__import__('pathlib').Path('owned').write_text('x')",
  "[__import__('pathlib').Path('owned').write_text('x')]",
  '9**9**9',
  '9**9**9**9**9',
  '[' * 100_000,
  '[' * 3_000,
  '9' * 1_000_000,
  '9' * 3_999,
  '1,' * 1_999,
  '1e999999999',
  '-' * 3_999,
  'nan',
  'Infinity',
  '𝟗' * 100,
  '\x00',
  '\ud800',
  '{"a":' * 900,
  'lambda: ().__class__.__bases__[0].__subclasses__()',
]


@pytest.mark.parametrize('task', [*verifiers.ADMITTED, 'jsonl'])
def test_nothing_answered_is_run(task, tmp_path, monkeypatch):
  ran = []
  problem = jsonl() if task == 'jsonl' else problems(task)[0]
  assert verify(problem, problem.solution).correct  # whatever is built, is built
  monkeypatch.chdir(tmp_path)
  for name in ('eval', 'exec', 'compile'):
    monkeypatch.setattr(builtins, name, lambda *args, **kw: ran.append(args))
  gold = verify(problem, problem.solution).correct
  verdicts = [verify(problem, f'#{text}').correct for text in MALICE]
  monkeypatch.undo()
  assert gold and not any(verdicts)
  assert not ran and not list(tmp_path.iterdir())


def test_unknown_and_unusable_tasks_are_refused():
  with pytest.raises(BadInput, match=r"unknown task 'chain_sums': did you mean .*chain_sum"):
    verifiers.check_task('chain_sums')
  with pytest.raises(
    BadInput, match=r"unknown task 'zzzz': use one of jsonl, math, code, responses, mess"
  ):
    verifiers.check_task('zzzz')
  with pytest.raises(BadInput, match=r"'rubiks_cube' cannot be used: its entries come without"):
    verifiers.check_task('rubiks_cube')
  for task in ('chain_sum', 'n_queens', 'jsonl', 'math', 'code'):
    verifiers.check_task(task)


def test_the_lists_name_tasks_that_exist():
  import reasoning_gym.factory

  assert set(verifiers.ADMITTED) | set(verifiers.UNUSABLE) <= set(reasoning_gym.factory.DATASETS)
  assert not set(verifiers.ADMITTED) & set(verifiers.UNUSABLE)


# -- in the sandbox


def test_every_other_task_has_sound_problems():
  """Its own answers pass and nonsense does not: in three draws of each, the slow ones left out."""
  import reasoning_gym.factory

  slow = {'knight_swap', 'sokoban', 'zebra_puzzles', 'futoshiki', 'codeio', 'puzzle24', 'sudoku'}
  slow |= {'figlet_font', 'intermediate_integration', 'simple_integration', 'group_anagrams'}
  known = set(reasoning_gym.factory.DATASETS) - set(verifiers.ADMITTED) - set(verifiers.UNUSABLE)
  assert len(known) == 82
  for task in sorted(known - slow):
    dataset = pools._dataset(pools.Task(task, {}), 5, 3)
    assert any(pools.draft_of(task, dataset[i], 'full') for i in range(3)), task


@pytest.mark.parametrize('task', [*verifiers.UNUSABLE])
def test_unusable_tasks_have_no_sound_problem(task):
  """So that one which a later version of reasoning-gym mends is noticed."""
  import reasoning_gym

  try:
    dataset = reasoning_gym.create_dataset(task, seed=5, size=3)
    entries = [dataset[i] for i in range(3)]
  except Exception:
    return
  for entry in entries:
    assert entry['answer'] is None or pools.draft_of(task, entry, 'full') is None


SANDBOXED = ('n_queens', 'countdown', 'binary_matrix', 'word_sorting')


def test_scorers_that_evaluate_are_right_in_the_sandbox():
  dataset = {task: pools._dataset(pools.Task(task, {}), 5, 3) for task in SANDBOXED}
  chosen = [pools.draft_of(t, dataset[t][i], 'full').problem for t in SANDBOXED for i in range(3)]
  found = verifiers.verify_all(chosen, [[p.solution, '#nonsense', 'none'] for p in chosen])
  for problem, (right, wrong, none) in zip(chosen, found, strict=True):
    assert right == (True, problem.answer, 'ok')
    assert not wrong.correct and wrong.answer == 'nonsense' and none == (False, None, 'ok')
  alike = verify(chosen[3], chosen[3].solution.replace(' + ', '+'))  # of countdown: any sum that is
  assert alike.correct


def test_what_is_evaluated_costs_its_own_rollout_alone(tmp_path):
  """countdown's scorer hands the text to sympy's parser, which evaluates it."""
  problem = pools.draft_of(
    'countdown', pools._dataset(pools.Task('countdown', {}), 5, 1)[0], 'full'
  )
  problem, owned = problem.problem, tmp_path / 'owned'
  attacks = [
    f"__import__('pathlib').Path({str(owned)!r}).write_text('x')",
    "__import__('os')._exit(0)",
    "__import__('sys').modules['scaling.rewards.untrusted'].__dict__.update(score=lambda **k: 1)",
    '9**9**9**9',
  ]
  (found,) = verifiers.verify_all(
    [problem], [[f'#{text}' for text in attacks] + ['#' + problem.answer]]
  )
  assert not any(verdict.correct for verdict in found[:-1]) and found[-1].correct
  assert found[1].status == 'error' and found[3].status in ('timeout', 'memory')
  assert not owned.exists()
  assert verify(problem, problem.solution).correct
  assert sum(verdict.status == 'ok' for verdict in found) < 4


def maths(answer):
  solution = f'so \\boxed{{{answer}}}'
  return Problem('m', 'math', 'q\n', solution, verifiers.canonical('math', answer), {})


@pytest.mark.parametrize(
  'gold, answer, right',
  [
    (r'\frac{1}{2}', r'\dfrac 12', True),
    (r'\frac{1}{2}', '0.5', True),
    (r'\sqrt{8}', r'2\sqrt{2}', True),
    ('(x+1)^2', 'x^2+2x+1', True),
    (r'\{1,2\}', r'\{2, 1\}', True),
    ('1,234', '1234', True),
    (r'\text{east}', 'east', True),
    (r'\frac{1}{2}', r'\frac{1}{3}', False),
    ('(1,2)', '(2,1)', False),
    ('3', '4', False),
    ('3', 'x', False),
    # a letter behind a number is a variable, and what follows a stroke a denominator
    ('2x', '2', False),
    ('2', '2x', False),
    ('2x', '2x', True),
    ('3i', '3x', False),
    ('2xy', '2yx', True),
    ('5x', '5 x', True),
    ('10cm', '10 cm', True),
    ('5/x', '5', False),
    ('50', '$50.00$', True),
    (r'\frac{1}{2}', '', False),
    # read as a relation by one order, and as the interval it describes by the other
    ('1<x<2', '(1,2)', False),
    ('(1,2)', '1<x<2', False),
  ],
)
def test_maths_answers(gold, answer, right):
  assert verify(maths(gold), f'I say \\boxed{{{answer}}}.').correct == right
  assert verify(maths(gold), f'or #### {answer}').correct == right


def test_boxes():
  assert verifiers.boxed(r'\boxed{1} or \boxed{\frac{1}{2}} so') == r'\frac{1}{2}'
  for text in ('', r'\boxed{1', r'\boxed{}', '1'):
    assert verifiers.boxed(text) is None


@pytest.mark.parametrize(
  'text, expected',
  [
    (r' $\dfrac{1}{2}\,x$ ', r'\frac{1}{2}x'),
    (r'\left( 1,\;2 \right)', '( 1,2 )'),
    (r'\leftarrow \tfrac12', r'\leftarrow \frac12'),
    (r'\text{a}   b', r'\text{a} b'),
  ],
)
def test_spellings_of_one_answer(text, expected):
  assert verifiers.latex(text) == expected == verifiers.latex(expected)


def test_a_maths_answer_that_takes_for_ever_is_counted(monkeypatch):
  monkeypatch.setitem(verifiers.LIMITS, 'math', verifiers.LIMITS['math']._replace(cpu_seconds=1))
  (found,) = verifiers.verify_all([maths('3')], [[r'\boxed{9^{9^{9^{9}}}+x}', r'\boxed{3}']])
  assert found[0][0] is False and found[0].status in ('timeout', 'memory', 'error')
  assert found[1] == (True, '3', 'ok')


def code(tests, solution='def f(n):\n  return n * n'):
  return Problem('c', 'code', 'square\n', solution, solution, {'tests': tests})


def test_programs_are_run_against_their_tests():
  problem = code(['assert f(3) == 9', 'assert f(-1) == 1'])
  good = 'Here:\n```python\ndef f(n):\n  return n ** 2\n```\nDone.'
  wrong = ['def f(n): return n * 3', 'def f(n', 'raise SystemExit(0)', 'import os; os._exit(0)']
  hangs = 'def f(n):\n  while True: pass'
  ones = verifiers.verify_all([problem], [[good, *wrong, hangs, '', problem.solution]])[0]
  assert [v.correct for v in ones] == [True, *[False] * 6, True]
  assert [v.status for v in ones] == ['ok'] * 5 + ['timeout', 'ok', 'ok']
  assert ones[0].answer == 'def f(n):\n  return n ** 2' and ones[6].answer is None


def test_programs_are_run_against_what_they_must_write():
  tests = [{'input': '3\n', 'output': '9\n'}, {'input': '5', 'output': '25'}]
  problem = code(tests, 'print(int(input()) ** 2)')
  texts = ['print(int(input()) ** 2)\n', 'n = input(); print(int(n) * int(n), "")', 'print(9)',
           'import sys; print("no", file=sys.stderr); print(int(input()) ** 2)', '1/0']  # fmt: skip
  ones = verifiers.verify_all([problem], [texts])[0]
  assert [v.correct for v in ones] == [True, True, False, True, False]
