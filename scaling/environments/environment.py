"""A small interface to environments of several turns, and episodes in them.

    reset(problem) -> state                              what is seen first is the problem's prompt
    step(states, actions) -> [Step of each episode]      of many at once, for verifiers take time

Both are pure functions. An environment's instance is a problem: how many there are to train on is
config.rl.environments, as of tasks of one turn.

    prompt | turn, stop token | what the environment says | turn, stop token | …

Axes: P problems, G episodes of each.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from scaling import processes
from scaling.data.batches import Problem
from scaling.data.vocab import Vocab
from scaling.errors import BadInput


class Step(NamedTuple):
  """What an action leads to. Rewards of an episode are summed."""

  state: object
  observation: str  # what the policy is told; not read where `done`
  reward: float  # NaN where there is no verdict: it counts as 0, and is counted
  done: bool


class Environment(NamedTuple):
  """Of one kind."""

  name: str
  says: tuple[str, ...]  # all that it may say, or what has as many tokens as any of it
  reset: Callable[[Problem], object]
  step: Callable[[Sequence[object], Sequence[str]], list[Step]]


class Turn(NamedTuple):
  """What a policy said: its stop token is part of it."""

  tokens: list[int]
  logp: list[float]  # of each, under the distribution that it was drawn from
  stopped: bool  # False: cut at its limit, which ends the episode


class Episode(NamedTuple):
  """What came after the prompt. It ends with a turn of the policy."""

  tokens: list[int]
  own: list[bool]  # the policy's tokens; the others are what the environment said
  logp: list[float]  # 0 for those
  turns: int
  reward: float
  no_verdict: int  # turns without one
  stopped: bool  # False: its last turn was cut


BEGUN = Episode([], [], [], 0, 0.0, 0, False)


def tokens(environment: Environment, vocab: Vocab, turns: int, response_tokens: int) -> int:
  """The most that an episode may have behind its prompt."""
  return turns * response_tokens + (turns - 1) * _most(environment, vocab)


def _most(environment: Environment, vocab: Vocab) -> int:
  """The most tokens that it says at once."""
  return max(len(vocab.encode(words)) for words in environment.says)


def check_room(
  environment: Environment, vocab: Vocab, longest: int, turns: int, response_tokens: int, row: int
) -> None:
  """BadInput where an episode behind a prompt of `longest` tokens may go beyond `row` positions."""
  need = longest + tokens(environment, vocab, turns, response_tokens)
  if need > row:
    raise BadInput(
      f'environment {environment.name}: a prompt of {longest} tokens and {turns} turns of up to '
      f'{response_tokens} take {need} positions, and config.data.row_tokens is {row}: raise it, or '
      'ask for fewer turns'
    )


def play(
  environment: Environment,
  vocab: Vocab,
  problems: Sequence[Problem],
  group: int,
  turns: int,
  draw: Callable[[int, list[tuple[int, int]], list[Episode]], list[Turn]],
) -> list[list[Episode]]:
  """`group` episodes of each problem, [P][G], of at most `turns` turns.

  draw(turn, places, so_far) -> the next Turn of each open Episode: turn counts from 0; places:
  (problem, episode) numbers. Of several processes the first steps the environment for all.
  """
  open_ = [(p, g) for p in range(len(problems)) for g in range(group)]
  states = {at: environment.reset(problems[at[0]]) for at in open_}
  found, most = dict.fromkeys(open_, BEGUN), _most(environment, vocab)
  for turn in range(turns):
    said = draw(turn, open_, [found[at] for at in open_])
    whole = [(at, one) for at, one in zip(open_, said, strict=True) if one.stopped]

    def step(whole=whole):
      actions = [vocab.decode(one.tokens) for _, one in whole]
      steps = environment.step([states[at] for at, _ in whole], actions)
      states.update((at, step.state) for (at, _), step in zip(whole, steps, strict=True))
      return [[step.observation, step.reward, step.done] for step in steps]

    told = dict(zip((at for at, _ in whole), processes.once(step), strict=True))
    again = []
    for at, one in zip(open_, said, strict=True):
      words, reward, done = told.get(at, ('', 0.0, True))
      done = done or turn + 1 == turns
      more = [] if done else _observed(environment, vocab, words, most)
      found[at] = _after(found[at], one, more, reward)
      if not done:
        again.append(at)
    open_ = again
    if not open_:
      break
  return [[found[p, g] for g in range(group)] for p in range(len(problems))]


def unread(episode: Episode) -> int:
  """Tokens at the end of an episode that the policy has not been fed yet: the last one that it
  drew, and what the environment said to it."""
  return 1 + episode.own[::-1].index(True)


def _observed(environment: Environment, vocab: Vocab, words: str, most: int) -> list[int]:
  ids = vocab.encode(words)
  if not 0 < len(ids) <= most:
    raise BadInput(
      f'environment {environment.name}: it says {words!r}, {len(ids)} tokens: it must be at least '
      f'one, and at most {most}, the most of its `says`'
    )
  return ids


def _after(so_far: Episode, turn: Turn, more: list[int], reward: float) -> Episode:
  silent = bool(np.isnan(reward))
  return Episode(
    so_far.tokens + turn.tokens + more,
    so_far.own + [True] * len(turn.tokens) + [False] * len(more),
    so_far.logp + [*turn.logp, *[0.0] * len(more)],
    so_far.turns + 1,
    so_far.reward + (0.0 if silent else reward),
    so_far.no_verdict + silent,
    turn.stopped,
  )
