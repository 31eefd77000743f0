"""New problems of a task's grammar, read back from text, and how different texts are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data import attempts, new_prompts, pools
from scaling.data.batches import DataSpec
from scaling.rewards import verifiers

TASKS = ('chain_sum(min_terms=2,max_terms=4)', 'products(min_terms=2,max_terms=3)')


def problems(task, style):
  spec = DataSpec(
    task=task, pretrain_tasks=(), style=style, vocab='bytes', row_tokens=400, seed=0, sft=6, rl=0,
    validation=0, test=0, pretrain=0,
  )  # fmt: skip
  return [draft.problem for draft in pools.draw(spec)['sft']]


POOL = {(task, style): problems(task, style) for task in TASKS for style in ('short', 'full')}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(list(POOL)), st.integers(0, 5), st.integers(0, 10**9))
def test_an_evolved_problem_is_one_of_the_task_with_the_right_answer(key, at, seed):
  problem, style = POOL[key][at], key[1]
  new = new_prompts.evolved(problem, style, seed)
  if new is None:
    return
  expression = new_prompts.expression_of(new)
  assert expression != new_prompts.expression_of(problem)
  assert expression.replace(' ', '') in new.prompt.replace(' ', '')
  assert int(new.answer) == eval(expression)  # Python's own arithmetic
  assert verifiers.verify(new, new.solution).correct
  assert not verifiers.verify(new, f'#{int(new.answer) + 1}').correct
  assert new.id != problem.id and new == new_prompts.evolved(problem, style, seed)
  assert new_prompts.read(new.prompt, problem, style) == new


def test_all_changes_come_up():
  problem = POOL[TASKS[0], 'short'][0]
  old = new_prompts.expression_of(problem).split(' ')
  seen = set()
  for seed in range(60):
    new = new_prompts.evolved(problem, 'short', seed)
    words = new_prompts.expression_of(new).split(' ') if new else old
    seen.add('term' if len(words) > len(old) else '')
    seen.add('operator' if words[1::2] != old[1::2] and len(words) == len(old) else '')
    longer = any(len(a) > len(b) for a, b in zip(words[::2], old[::2]))
    seen.add('digits' if longer and len(words) == len(old) else '')
  assert seen >= {'term', 'operator', 'digits'}


@pytest.mark.parametrize('text', ['', '=', '12=', '1+=', '1++2=', '01+2=', '1*2=', '1+2', '1+2=3'])
def test_a_text_that_is_no_problem_of_the_task_is_refused(text):
  assert new_prompts.read(text, POOL[TASKS[0], 'short'][0], 'short') is None


def test_a_text_of_another_task_or_style_is_refused():
  short, full = POOL[TASKS[0], 'short'], POOL[TASKS[0], 'full']
  found = new_prompts.read(short[1].prompt, short[0], 'short')
  assert found[:-1] == short[1][:-1] and found.entry['answer'] == short[1].entry['answer']
  assert new_prompts.read(full[1].prompt, short[0], 'short') is None
  assert new_prompts.read(full[1].prompt + 'Hurry.', full[1], 'full') is None
  assert new_prompts.check('chain_sum(min_terms=2)') is None
  assert 'gcd has no grammar' in new_prompts.check('gcd')


def test_distinct_n_and_distance_by_hand():
  assert new_prompts.distinct([[1, 2, 1, 2], [1, 2]], 2) == 2 / 4
  assert new_prompts.distinct([[1]], 2) == 0
  # bigrams {12, 23} and {12, 24}: one of three is shared
  assert new_prompts.distance([[1, 2, 3], [1, 2, 4]]) == pytest.approx(2 / 3)
  assert new_prompts.distance([[1, 2]] * 3) == 0 and new_prompts.distance([[1, 2]]) == 0
  many = [[i, i + 1, i + 2] for i in range(100)]  # neighbours share one
  assert 0.98 < new_prompts.distance(many) <= 1


def test_examples_that_are_shown_backwards():
  problem = POOL[TASKS[0], 'short'][0]
  shown = attempts.reversed_(problem, 'short', 0, 1.0)
  assert shown.prompt == problem.solution + '::' and shown.solution == problem.prompt
  assert attempts.reversed_(problem, 'short', 0, 0.0) == problem
  few, many = (
    {p.id for p in POOL[TASKS[1], 'full'] if attempts.reversed_(p, 'full', 0, part) != p}
    for part in (0.3, 0.8)
  )
  assert few <= many
