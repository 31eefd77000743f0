"""Every gold answer passes, every perturbed one fails, and nothing that is answered is run."""

import builtins
import functools
import json
import pathlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import pools
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import verifiers
from scaling.rewards.verifiers import number, number_list, verify

GSM8K = pathlib.Path(__file__).parents[2] / '../shared/data/gsm8k'
N = 100


@functools.cache
def problems(task):
  dataset = pools._dataset(pools.Task(task, {}), 5, N)
  drafts = [pools._draft(task, dataset[i], 'full') for i in range(N)]
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
    assert verify(problem, problem.solution) == (True, problem.answer)
    for text in perturbed(problem):
      assert not verify(problem, f'1+1=2;#{text}').correct, (problem, text)


@pytest.mark.skipif(not GSM8K.is_dir(), reason='no shared/data/gsm8k beside the project')
@pytest.mark.parametrize('split', ['train', 'test'])
def test_gsm8k_gold_passes_and_perturbed_fails(split):
  drafts = pools.read_jsonl(str(GSM8K / f'{split}.jsonl'))
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
  assert verify(jsonl(), '#71 no #### 72') == (True, '72')
  assert verify(jsonl(), '#72 no #71') == (False, '71')
  assert verify(jsonl(), '72') == (False, None)
  assert verify(jsonl(), '#72#') == (False, None)
  assert verify(jsonl(), '# \n') == (False, None)
  assert verify(jsonl(), '') == (False, None)
  assert verify(jsonl('1234.5'), '#$1,234.50 dollars') == (True, '1234.5')


def test_partial_credit_is_not_correct():
  problem = problems('spell_backward')[0]
  score = verifiers.scorer('spell_backward')(problem.answer[:-1] + '~', problem.entry)
  assert 0 < score < 1
  assert verify(problem, f'#{problem.answer[:-1]}~') == (False, f'{problem.answer[:-1]}~')


def test_a_scorer_that_raises_is_not_correct(monkeypatch):
  def raises(text, entry):
    raise ZeroDivisionError

  monkeypatch.setattr(verifiers, 'scorer', lambda task: raises)
  problem = problems('chain_sum')[0]
  assert verify(problem, problem.solution) == (False, problem.answer)


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
  started = time.monotonic()
  gold = verify(problem, problem.solution).correct
  verdicts = [verify(problem, f'#{text}').correct for text in MALICE]
  seconds = time.monotonic() - started
  monkeypatch.undo()
  assert gold and not any(verdicts)
  assert not ran and not list(tmp_path.iterdir())
  assert seconds < 1


def test_tasks_off_the_list_are_refused_by_their_scorer():
  with pytest.raises(BadInput, match=r"'n_queens': its scorer evaluates .* sandbox"):
    verifiers.admitted('n_queens')
  with pytest.raises(BadInput, match=r"'rubiks_cube': its scorer was not read yet"):
    verifiers.admitted('rubiks_cube')
  with pytest.raises(BadInput, match=r"unknown task 'chain_sums': did you mean .*chain_sum"):
    verifiers.admitted('chain_sums')
  with pytest.raises(BadInput, match=r"unknown task 'zzzz': use one of basic_arithmetic"):
    verifiers.admitted('zzzz')
  for task in ('n_queens', 'rubiks_cube', 'countdown'):
    with pytest.raises(BadInput):
      verifiers.scorer(task)


def test_the_list_names_tasks_that_exist():
  import reasoning_gym.factory

  assert set(verifiers.ADMITTED) | verifiers.EVALUATES <= set(reasoning_gym.factory.DATASETS)
  assert not set(verifiers.ADMITTED) & verifiers.EVALUATES
