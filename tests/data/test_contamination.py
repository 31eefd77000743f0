from hypothesis import given
from hypothesis import strategies as st

from scaling.data import contamination
from scaling.data.batches import Problem
from scaling.data.problem_files import Draft

WORD = st.sampled_from('a b c d'.split())


def draft(prompt, solution='x', where='f:1'):
  return Draft(Problem('p-1', 'jsonl', prompt, solution, '1', {}), prompt, where)


def runs(text, n):
  words = text.split()
  return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}


@given(st.lists(WORD, max_size=20), st.lists(WORD, max_size=20), st.integers(1, 6))
def test_a_shared_run_of_words_is_found_wherever_it_is(held, text, n):
  """Against the sets of all runs."""
  held, text = ' '.join(held), ' '.join(text)
  look = contamination.held_out([draft(held)], n)
  found = contamination.shared(look, draft('', text).problem)
  both = runs(held, n) & runs(text, n)
  assert (found is not None) == bool(both)
  assert found is None or tuple(found[0].split()) in both


def test_case_and_marks_do_not_matter_and_the_place_is_told():
  look = contamination.held_out([draft('one two'), draft('How many apples are there?')], 4)
  assert (look.prompts, look.short) == (2, 1)
  look = contamination.held_out([draft('how many apples are there', where='t:7')], 4)
  problem = draft('so: HOW many\napples are... few', 'none').problem
  assert contamination.shared(look, problem) == ('how many apples are', 't:7')
  assert contamination.shared(look, draft('how many apples', 'are there').problem) is None


def test_what_many_prompts_have_is_their_template():
  prompts = [draft(f'please solve this task now: number {i} of the list') for i in range(10)]
  look = contamination.held_out(prompts, 5)
  assert look.templates == 2  # 'please solve this task now', 'solve this task now number'
  assert contamination.shared(look, draft('please solve this task now: another').problem) is None
  found = contamination.shared(look, draft('a number 3 of the list').problem)
  assert found[0] == 'number 3 of the list'
