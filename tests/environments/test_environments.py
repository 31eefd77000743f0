"""Episodes by policies whose success is known, and what an environment says."""

import re
import types

import numpy as np
import pytest

from scaling.data.batches import Problem
from scaling.data.vocab import VOCABS
from scaling.environments import checker, environment
from scaling.environments.environment import Turn
from scaling.errors import BadInput
from scaling.rewards import verifiers
from scaling.rewards.verifiers import Verdict

VOCAB = VOCABS['arithmetic']
HINTS, VERDICT = (checker.ENVIRONMENTS[name]('short') for name in ('hints', 'verdict'))


def problem(answer, prompt='1-100='):
  return Problem(f'p{answer}', 'jsonl', prompt, '', str(answer), {})


def said(episode) -> str:
  """What was said in an episode, '.' for a stop token."""
  return ''.join('.' if i == VOCAB.stop else VOCAB.decode([i]) for i in episode.tokens)


def policy(say, calls=None):
  """Draws say(what was said so far), or, where that ends in '|', as much of it, cut."""

  def draw(turn, places, so_far):
    if calls is not None:
      calls.append((turn, list(places)))
    found = []
    for one in so_far:
      text = say(said(one))
      ids = VOCAB.encode(text.rstrip('|')) + [VOCAB.stop] * (not text.endswith('|'))
      found.append(Turn(ids, [-0.5] * len(ids), not text.endswith('|')))
    return found

  return draw


def halving(top, text):
  """The middle of what the hints leave of 1 to top."""
  low, high = 1, top
  for guess, hint in re.findall(r'#(\d+)\.([+-])', text):
    low, high = (int(guess) + 1, high) if hint == '+' else (low, int(guess) - 1)
  return f'#{(low + high) // 2}'


@pytest.mark.parametrize('top, turns', [(100, 7), (100, 4), (7, 3), (1, 1)])
def test_a_policy_that_reads_hints_finds_what_can_be_found(top, turns):
  """Of the numbers 1 to top t guesses find 2^t - 1, or all; without hints t of them."""
  problems = [problem(n) for n in range(1, top + 1)]
  play = lambda world, say: environment.play(world, VOCAB, problems, 1, turns, policy(say))
  found = play(HINTS, lambda text: halving(top, text))
  assert sum(one.reward for (one,) in found) == min(top, 2**turns - 1)
  assert max(one.turns for (one,) in found) <= turns
  blind = play(VERDICT, lambda text: f'#{1 + text.count("x")}')
  assert sum(one.reward for (one,) in blind) == min(top, turns)


def test_what_the_checker_says_by_hand():
  asked = [problem(41)] * 5
  steps = HINTS.step(asked, ['12+34=46;46-5=42#42', '#-7', 'nothing', '#41', '#41.0'])
  assert [step.observation for step in steps][:3] == ['-\n', '+\n', 'x\n']
  assert [(step.reward, step.done) for step in steps] == [(0, False)] * 3 + [(1, True)] * 2
  assert [step.observation for step in VERDICT.step(asked, ['#42'] * 5)] == ['x\n'] * 5
  assert steps == HINTS.step(asked, ['12+34=46;46-5=42#42', '#-7', 'nothing', '#41', '#41.0'])
  full = checker.ENVIRONMENTS['hints']('full')
  assert 'larger' in full.step(asked[:1], ['#3'])[0].observation
  told = {full.step(asked[:1], [text])[0].observation for text in ('#3', '#99', 'x')}
  assert told == set(full.says)
  words = Problem('w', 'spell_backward', 'abc', '', 'cba', {'answer': 'cba', 'metadata': {}})
  assert HINTS.step([words], ['#cbb'])[0].observation == 'x\n'  # no number: nothing to hint at


def test_an_episode_is_laid_end_to_end_and_only_the_turns_are_its_own():
  problems, script = [problem(5), problem(9)], iter(['#1', '#5', '#9|', '#7', '#6', '#5'])
  calls = []
  # place by place: (0,0) (0,1) (1,0), then those that are open; a group of 2 of the first, …
  found = environment.play(
    HINTS, VOCAB, problems[:1], 3, 3, policy(lambda text: next(script), calls)
  )
  first, second, third = found[0]
  assert (said(first), first.turns, first.reward, first.stopped) == ('#1.+\n#7.-\n#6.', 3, 0, True)
  assert (said(second), second.turns, second.reward) == ('#5.', 1, 1)
  assert (said(third), third.turns, third.reward, third.stopped) == ('#9', 1, 0, False)
  assert calls == [(0, [(0, 0), (0, 1), (0, 2)]), (1, [(0, 0)]), (2, [(0, 0)])]
  own = ''.join('o' if mine else '-' for mine in first.own)
  assert own == 'ooo--ooo--ooo'
  assert first.logp == [-0.5 if mine else 0 for mine in first.own]
  assert environment.unread(first) == 1
  after = first._replace(tokens=first.tokens[:5], own=first.own[:5])
  assert environment.unread(after) == 3  # the stop token, the hint and the mark


def test_without_a_verdict_there_is_no_reward_and_it_is_counted(monkeypatch):
  monkeypatch.setattr(
    verifiers, 'verify_all', lambda problems, texts: [[Verdict(False, '3', 'timeout')]] * len(texts)
  )
  ((one,),) = environment.play(HINTS, VOCAB, [problem(5)], 1, 2, policy(lambda text: '#3'))
  assert (one.reward, one.no_verdict, one.turns) == (0, 2, 2)


def test_the_room_is_of_what_takes_most_tokens_whatever_its_letters():
  by_word = types.SimpleNamespace(
    encode=lambda text: [ord(c) for c in text.replace('smaller', 's')], stop=VOCAB.stop,
    decode=lambda ids: ''.join(chr(i) for i in ids if i != VOCAB.stop),
  )  # fmt: skip
  world = checker.ENVIRONMENTS['hints']('full')
  larger, smaller = (world.step([problem(5)], [text])[0].observation for text in ('#3', '#9'))
  assert len(by_word.encode(smaller)) < len(by_word.encode(larger)) < len(smaller)
  assert environment.tokens(world, by_word, 2, 10) == 20 + len(by_word.encode(larger))
  ids = [*by_word.encode('#3'), by_word.stop]
  said = lambda turn, places, so_far: [Turn(ids, [0.0] * len(ids), True)] * len(places)
  ((one,),) = environment.play(world, by_word, [problem(5)], 1, 2, said)
  assert one.turns == 2 and one.own.count(False) == len(by_word.encode(larger))


def test_an_environment_keeps_to_the_room_that_it_said_it_needs():
  assert environment.tokens(HINTS, VOCAB, 3, 10) == 3 * 10 + 2 * 2
  environment.check_room(HINTS, VOCAB, 6, 3, 10, 40)
  with pytest.raises(
    BadInput, match=r'hints: a prompt of 6 tokens and 3 turns .* take 40 .* is 39'
  ):
    environment.check_room(HINTS, VOCAB, 6, 3, 10, 39)
  silent = HINTS._replace(
    step=lambda states, actions: [environment.Step(s, '', 0.0, False) for s in states]
  )
  with pytest.raises(BadInput, match='it must be at least one'):
    environment.play(silent, VOCAB, [problem(5)], 1, 2, policy(lambda text: '#3'))
  long = HINTS._replace(says=('+',))
  with pytest.raises(BadInput, match=r"says '\+\\n', 2 tokens"):
    environment.play(long, VOCAB, [problem(5)], 1, 2, policy(lambda text: '#3'))
  np.testing.assert_equal(
    environment.play(long, VOCAB, [problem(5)], 1, 1, policy(lambda text: '#3'))[0][0].turns, 1
  )
