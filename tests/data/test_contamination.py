from hypothesis import given
from hypothesis import strategies as st

from scaling.data import contamination, vocab
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


def test_what_many_prompts_have_is_their_template_and_a_run_over_its_end_is_no_copy():
  """Of 5 words at least 3 are a prompt's own: chats with one system's message begin alike, and two
  of them with a word in common are not copies."""
  system = {'role': 'system', 'content': 'Answer as briefly as you can.'}

  def chat(user):
    return vocab.written([system, {'role': 'user', 'content': user}])

  own = [' '.join(f'w{i}{at}' for at in range(6)) for i in range(10)]
  look = contamination.held_out(
    [draft(chat(text), where=f't:{i}') for i, text in enumerate(own)], 5
  )
  # the two of the message itself, and of each prompt the two that have 4 and 3 words of its end
  assert (look.prompts, look.short, look.templates) == (10, 0, 2 + 2 * 10)
  found = lambda text: contamination.shared(look, draft(text).problem)
  assert found(chat('w30 w31 is another')) is None  # 'you can w30 w31' and no more
  assert found(chat('why')) is None
  for copy in (chat(own[3]), own[3], chat('w30 w31 w32'), f'say {own[3][:-4]} again'):
    assert found(copy)[1] == 't:3'


def test_words_of_a_chat_are_those_of_its_messages():
  """As they are said, not as JSON writes them."""
  held = vocab.written(
    [{'role': 'user', 'content': 'one two\nthree'}, {'role': 'assistant', 'content': 'four'}]
  )
  look = contamination.held_out([draft(held)], 4)
  assert contamination.shared(look, draft('one two three four').problem) is not None
  look = contamination.held_out([draft('one two three four')], 4)
  assert contamination.shared(look, draft(held).problem) is not None
