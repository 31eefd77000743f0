"""Every worked step is true by arithmetic done here, and the steps lead to the gold answer."""

import functools
import math
import re
from fractions import Fraction

import pytest

from scaling.data import pools, solutions
from scaling.rewards import verifiers

N = 250
HARDER = {
  'chain_sum': {'allow_negation': True},
  'products': {'max_terms': 4, 'max_digits': 3, 'allow_negation': True},
  'gcd': {'max_numbers': 4},
  'lcm': {'max_numbers': 4},
  'number_sorting': {'max_decimals': 3},
  'basic_arithmetic': {'whitespace': 'random'},
}


@functools.cache
def entries(task, harder):
  arguments = HARDER.get(task, {}) if harder else {}
  dataset = pools._dataset(pools.Task(task, arguments), 11, N)
  return [dataset[i] for i in range(N)]


def value(text, x=0):
  """Exact value of plain arithmetic, which the pattern sees to."""
  text = text.replace('x', f'({x})')
  assert re.fullmatch(r'[-+*/()0-9.]+', text), text
  return eval(re.sub(r'\d+(\.\d+)?', r'Fraction("\g<0>")', text), {'Fraction': Fraction})


@pytest.mark.parametrize('harder', [False, True])
@pytest.mark.parametrize('task', ['chain_sum', 'products', 'gcd', 'lcm', 'simple_equations'])
def test_every_step_is_an_equality_that_holds(task, harder):
  shown = 0
  for entry in entries(task, harder):
    steps = solutions.worked_steps(task, entry, 'short')
    if steps is None:
      continue
    for step in steps:
      sides = [value(side, x=entry['answer']) for side in step.split('=')]
      assert len(sides) > 1 and len(set(sides)) == 1, (entry, step)
      shown += 1
    if steps and task != 'gcd':
      assert steps[-1].rsplit('=', 1)[1] == entry['answer']
  assert shown > N / 2


@pytest.mark.parametrize('harder', [False, True])
def test_sums_go_through_the_partial_sums(harder):
  for entry in entries('chain_sum', harder):
    terms = re.split(r' ([+-]) ', entry['metadata']['expression'])
    partial = [str(value(''.join(terms[:i]))) for i in range(1, len(terms) + 1, 2)]
    steps = solutions.worked_steps('chain_sum', entry, 'short')
    assert [step.split('=')[1] for step in steps] == partial[2:]


def test_a_sum_of_three_terms_takes_one_step():
  entry = {'metadata': {'expression': '12 + 34 + 56'}}
  assert solutions.worked_steps('chain_sum', entry, 'short') == ['46+56=102']
  assert solutions.short_prompt('chain_sum', entry) == '12+34+56='


def test_euclid_ends_at_the_gcd():
  for entry in entries('gcd', True):
    steps = solutions.worked_steps('gcd', entry, 'short')
    a, b = re.fullmatch(r'\d+-\d+\*(\d+)=(\d+)', steps[-1]).groups()
    assert (a, b) == (str(math.gcd(*entry['metadata']['numbers'])), '0')


@pytest.mark.parametrize('harder', [False, True])
def test_expressions_keep_their_value_as_they_shrink(harder):
  operations = lambda text: len(re.findall(r'(?<=[0-9)])[-+*/]', text))
  unsound = 0
  for entry in entries('basic_arithmetic', harder):
    steps = solutions.worked_steps('basic_arithmetic', entry, 'short')
    if steps is None:
      unsound += 1
      continue
    whole = solutions.short_prompt('basic_arithmetic', entry)[:-1]
    assert {value(step) for step in [whole, *steps]} == {int(entry['answer'])}
    left = [operations(step) for step in steps]
    assert left == list(range(len(steps), 0, -1))
  assert unsound < N / 10


def test_a_rounded_quotient_is_no_problem():
  entry = {'metadata': {'expression': '7 / 2 + 1'}}
  assert solutions.worked_steps('basic_arithmetic', entry, 'short') is None
  assert (
    solutions.worked_steps('basic_arithmetic', {'metadata': {'expression': '7 / 0'}}, '') is None
  )


def test_an_equation_without_its_unknown_is_no_problem():
  entry = {'metadata': {'equation': '0 = 0', 'variable': 'i'}}
  assert solutions.worked_steps('simple_equations', entry, 'short') is None


def test_equations_are_written_in_x_only_where_prompts_are_short():
  entry = {'metadata': {'equation': '5 - k = 20', 'variable': 'k'}}
  assert solutions.short_prompt('simple_equations', entry) == '5-x=20 x='
  assert solutions.worked_steps('simple_equations', entry, 'short') == ['-x=20-5=15', 'x=15/-1=-15']
  assert solutions.worked_steps('simple_equations', entry, 'full') == ['-k=20-5=15', 'k=15/-1=-15']


def test_letters_are_counted_word_by_word():
  for entry in entries('letter_counting', False):
    letter, words = entry['metadata']['target_letter'], entry['metadata']['span']
    steps = [step.split(' ') for step in solutions.worked_steps('letter_counting', entry, 'full')]
    assert [word for word, _ in steps] == [word for word in words if letter in word.lower()]
    text = ''
    for word, count in steps:
      text += word.lower()
      assert int(count) == text.count(letter)
    assert steps[-1][1] == entry['answer']


@pytest.mark.parametrize('harder', [False, True])
def test_sorting_inserts_one_number_at_a_time(harder):
  for entry in entries('number_sorting', harder):
    numbers = [float(number) for number in entry['metadata']['original_numbers']]
    falling = entry['metadata']['direction'] == 'descending'
    steps = solutions.worked_steps('number_sorting', entry, 'full')
    for i, step in enumerate(steps, 2):
      assert [float(number) for number in step.split(',')] == sorted(numbers[:i], reverse=falling)
    assert len(steps) == max(len(numbers) - 2, 0)


@pytest.mark.parametrize('task', verifiers.ADMITTED)
def test_every_solution_ends_in_the_gold_answer(task):
  for style in ('short', 'full') if task in solutions.SHORT else ('full',):
    drafts = [pools.draft_of(task, entry, style) for entry in entries(task, False)]
    kept = [draft.problem for draft in drafts if draft]
    assert len(kept) > 0.9 * N  # the rest is not well posed
    for problem in kept:
      answer = verifiers.canonical(task, problem.solution.rsplit('#', 1)[1])
      assert answer == problem.answer == verifiers.canonical(task, problem.entry['answer'])
