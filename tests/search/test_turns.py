"""Revision, self-verification, many-shot prompts: what is asked, what is chosen, what it costs."""

import pytest

from scaling import compute
from scaling.data import attempts
from scaling.data.batches import Problem
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.rewards.verifiers import Verdict
from scaling.search import episodes, many_shot, outcome, revision, self_verification
from scaling.search.generate import Drawn, Generator
from tests.search.toys import CFG, VOCAB

PROBLEM = Problem('p', 'jsonl', '7+8=', '', '15', {})


def scripted(responses, weights=None):
  """(generator, what was asked): says the responses one after another, '|' for one that is cut."""
  asked, script = [], iter(responses)

  def draw(prefixes, n=1, salt='', **more):
    each = n if isinstance(n, list) else [n] * len(prefixes)
    asked.extend(VOCAB.decode(prefix) for prefix in prefixes)
    found = []
    for count in each:
      texts = [next(script) for _ in range(count)]
      cut = [text.endswith('|') for text in texts]
      ids = [VOCAB.encode(text.rstrip('|')) + [VOCAB.stop] * (not c) for text, c in zip(texts, cut)]
      found.append([Drawn(i, [0.0] * len(i), not c) for i, c in zip(ids, cut)])
    return found

  def weigh(prefixes, texts):
    return [weights[VOCAB.decode(p), VOCAB.decode(t)] for p, t in zip(prefixes, texts)]

  return Generator(draw, weigh, compute.empty, lambda: 0), asked


def tools(responses, weights=None, **more):
  generator, asked = scripted(responses, weights)
  given = dict(response_tokens=10, row_tokens=64) | more
  return outcome.Tools(CFG, VOCAB, 'short', generator, **given), asked


def test_a_revision_sees_the_attempt_before_it():
  script = ['#14', '#15', '1;2#15']
  given, asked = tools(script)
  (one,) = revision.search([PROBLEM], given, 3)
  assert asked == ['7+8=', '7+8=#14\n', '7+8=#15\n']
  assert one.value == 1.0  # two of three
  assert revision.search([PROBLEM], tools(script)[0], 3, choose='last')[0].value == 1.0
  assert revision.search([PROBLEM], tools(script[::-1])[0], 3, choose='last')[0].value == 0.0
  tied = revision.search([PROBLEM], tools(['#14', '#15'])[0], 2)
  assert tied[0].value == 0.5


def test_the_verdicts_of_a_search_are_asked_for_at_one_go(monkeypatch):
  asked, verify_all = [], outcome.verify_all
  monkeypatch.setattr(outcome, 'verify_all', lambda *of: asked.append(of[1]) or verify_all(*of))
  other = PROBLEM._replace(id='q', answer='14')
  found = revision.search([PROBLEM, other], tools(['#15', '#14|', '#13', '#14'])[0], 2)
  assert asked == [[['#15', '#13'], ['#14']]]  # what was cut is not read
  assert [one.value for one in found] == [0.5, 1.0]


def test_the_cost_of_revisions_by_hand():
  """p = 4 tokens of prompt; '#14' and the stop token; then the mark, after what the cache holds."""
  (one,) = revision.search([PROBLEM], tools(['#14', '1;2#15'])[0], 2)
  flops = compute.forward_flops
  # the second prompt: '7+8=#14' is cached (the stop token is replaced), '\n' is new
  assert one.cost.prefill_tokens == 4 + 1
  assert one.cost.prefill_flops == flops(CFG, 4, 10, 1) + flops(CFG, 1, 8, 1)
  assert one.cost.decode_tokens == 4 + 7 and one.cost.samples == 2
  first, second = 5 + 6 + 7, 9 + 10 + 11 + 12 + 13 + 14
  assert one.cost.decode_flops == flops(CFG, 3, first, 3) + flops(CFG, 6, second, 6)


def test_the_last_token_of_a_cut_attempt_was_not_fed():
  (one,) = revision.search([PROBLEM], tools(['1;2|', '#15'])[0], 2)
  assert one.cost.prefill_tokens == 4 + 2  # then '2' and the mark


def test_chains_of_revisions_by_a_scorer():
  """Two chains of two turns; the scorer likes '16'."""
  likes = lambda wholes, ends: [
    [float('16' in VOCAB.decode(w))] * len(e) for w, e in zip(wholes, ends)
  ]
  scorer = outcome.Scorer(likes, lambda length, cached, marks: float(length - cached))
  script = ['#15', '#16', '#15', '#15']
  given, asked = tools(script, scorer=scorer)
  (one,) = revision.search([PROBLEM], given, 4, chains=2, choose='best')
  assert asked == ['7+8='] * 2 + ['7+8=#15\n', '7+8=#16\n']
  assert one.value == 0.0
  assert one.cost.scorer_flops == 4 + 4 * 4  # the prompt once, and four attempts of four tokens
  assert revision.search([PROBLEM], tools(script)[0], 4, chains=2)[0].value == 1.0


def test_self_verification_weighs_attempts_by_its_own_verdicts():
  script = ['#14', '#14', '#15', '3|']
  weights = {
    ('7+8=#14:', 'c'): -2.0, ('7+8=#14:', 'x'): -1.0,
    ('7+8=#15:', 'c'): -1.0, ('7+8=#15:', 'x'): -3.0,
    ('7+8=3:', 'c'): -0.1, ('7+8=3:', 'x'): -9.0,
  }  # fmt: skip
  (one,) = self_verification.search([PROBLEM], tools(script, weights)[0], 4)
  assert one.value == 1.0  # the cut one, which it likes best, has no answer
  assert one.cost.samples == 4 and one.cost.decode_tokens == 4 + 4 + 4 + 1
  # each question: the last token of a cut response was not fed; then the mark
  assert one.cost.prefill_tokens == 4 + 1 + 1 + 1 + 2
  assert one.cost.scorer_flops == 0
  (vote,) = self_verification.search([PROBLEM], tools(script, weights)[0], 4, choose='weighted')
  assert vote.value == 1.0  # .88 against .27 twice
  weights['7+8=#14:', 'c'] = -1.0
  (vote,) = self_verification.search([PROBLEM], tools(script, weights)[0], 4, choose='weighted')
  assert vote.value == 0.0  # .88 against .5 twice


def test_text_that_grows_when_it_is_read_again_is_cut():
  """A byte that is no character comes back as three."""
  given = tools([], row_tokens=30)[0]._replace(vocab=VOCABS['bytes'])
  attempt = given.vocab.decode([3 + 0xFF] * 10)
  write = lambda text: attempts.revise('full', '1+1=', text)
  plain = len(given.vocab.prompt(write('')))
  given = given._replace(row_tokens=plain + 17)
  ids = outcome.showing(given, write, attempt, 10)
  assert given.vocab.decode(ids) == write(attempt[:2]) and len(ids) == plain + 6
  assert outcome.showing(given, write, '12', 10) == given.vocab.prompt(write('12'))


def test_shots_are_whole_examples_and_nested():
  examples = [Problem(f'e{i}', 'jsonl', f'{i}+1=', f'#{i + 1}', str(i + 1), {}) for i in range(5)]
  given, _ = tools([], examples=examples)
  two, three = many_shot.shots(given, 2), many_shot.shots(given, 3)
  assert three[: len(two)] == two and three.count(VOCAB.stop) == 3
  decoded = VOCAB.decode(two[: two.index(VOCAB.stop)])
  assert decoded in {problem.prompt + problem.solution for problem in examples}
  others = {tuple(many_shot.shots(given._replace(run=run), 2)) for run in range(10)}
  assert len(others) > 3
  given, _ = tools(['#15', '#14', '#15'], examples=examples)
  (one,) = many_shot.search([PROBLEM], given, 2, samples=3)
  assert one.value == 1.0 and one.cost.prefill_tokens == len(two) + 4
  with pytest.raises(BadInput, match=r'k = 6 examples, and the SFT pool has 5'):
    many_shot.search([PROBLEM], given, 6)
  with pytest.raises(BadInput, match=r'many_shot: prompts of up to \d+ tokens .*row_tokens is 20'):
    many_shot.search([PROBLEM], given._replace(row_tokens=20), 2)


def test_an_episode_goes_on_until_it_is_right():
  given, asked = tools(['#14', '#15'])
  (one,) = episodes.search([PROBLEM], given, 3)
  assert one.value == 1.0 and asked == ['7+8=', '7+8=#14']  # decoded up to the stop token
  (late,) = episodes.search([PROBLEM], tools(['#14', '#16', '#15'])[0], 2, environment='verdict')
  assert late.value == 0.0
  flops = compute.forward_flops
  prompt, turn = 4, 4  # '#14' and its stop token
  heard = 3  # that one, the hint and the mark
  second = prompt + turn + 2
  assert one.cost.samples == 2 and one.cost.decode_tokens == 2 * turn
  assert one.cost.prefill_tokens == prompt + heard
  context = sum(range(second - heard + 1, second + 1))
  assert one.cost.prefill_flops == flops(CFG, prompt, 10, 1) + flops(CFG, heard, context, 1)
  decoded = sum(flops(CFG, 1, n + i, 1) for n in (prompt, second) for i in (1, 2, 3))
  assert one.cost.decode_flops == pytest.approx(decoded)
  with pytest.raises(BadInput, match=r'4 turns of up to 10 take 50 positions.*is 49'):
    episodes.search([PROBLEM], tools([], row_tokens=49)[0], 4)
  with pytest.raises(BadInput, match=r'environment is .hint.: .* one of verdict, hints'):
    episodes.search([PROBLEM], given, 2, environment='hint')


def test_choices_against_hand_made_ones():
  made = lambda answer: outcome.Response([], True, Verdict(answer == '1', answer))
  of = [made(answer) for answer in ('1', '2', '2', None, '3')]
  weights = [0.5, 0.3, 0.1, 0.9, 0.5]
  assert outcome.chosen(of, weights, 'best') == 0.5  # 1 and 3 share it
  assert outcome.chosen(of, weights, 'majority') == 0.0
  assert outcome.chosen(of, [0.5, 0.3, 0.1, 0.9, 0.4], 'weighted') == 1.0
  assert outcome.chosen(of[3:4], [1.0], 'best') == 0.0


def test_bad_input():
  for k, options, words in (
    (3, dict(chains=2), 'chains is 2: it must be at least 1 and divide k = 3'),
    (2, dict(choose='best'), r'revision: it needs a scorer: set config\.search\.scorer'),
    (2, dict(choose='first'), "choose is 'first': it must be one of last, best"),
  ):
    with pytest.raises(BadInput, match=words):
      revision.search([PROBLEM], tools([])[0], k, **options)
  # prompt, attempt, mark and another response: 4 + 10 + 1 + 10
  with pytest.raises(BadInput, match=r'take 25 positions, and config\.data\.row_tokens is 24'):
    revision.search([PROBLEM], tools([], row_tokens=24)[0], 2)
  with pytest.raises(BadInput, match=r'self_verification: prompts .*row_tokens is 15'):
    self_verification.search([PROBLEM], tools([], row_tokens=15)[0], 2)


def test_prompts_of_searches_are_those_that_are_taught():
  """The data's example and the search's prompt are the same text."""
  problem = PROBLEM._replace(solution='#15')
  seen = set()
  for seed in range(40):
    example = attempts.shown(problem, 'short', seed, 1.0)
    if example.prompt == attempts.revise('short', problem.prompt, '#15'):
      assert example.solution == '#15'
      seen.add('revise')
    if example.prompt == attempts.verify('short', problem.prompt, '#15'):
      assert example.solution == 'c'
      seen.add('verify')
  assert seen == {'revise', 'verify'}
