"""Guess a number from hints: the smallest game in which a policy must use what it is told.

    1-100:50;+75;-62;=          the policy's own: '50;' '75;' '62;'

The prompt names the range. After a guess comes '+' (the number is larger), '-' (smaller), '=' (that
is it: reward 1, the end) or 'x' (no whole number: the turn is lost). All of it is in the vocabulary
'arithmetic'. With t turns no policy finds more than 2^t - 1 numbers for certain: the best success
rate is min(1, (2^t - 1) / top), which halving reaches.
"""

import hashlib
import re
from typing import NamedTuple

from scaling.environments.environment import Environment
from scaling.errors import BadInput


class State(NamedTuple):
  number: int
  left: int  # turns


def make(top: int = 100, turns: int = 7) -> Environment:
  """The game of a number from 1 to `top`. BadInput for a range or a number of turns below 1."""
  if top < 1 or turns < 1:
    raise BadInput(f'guessing: top is {top} and turns {turns}: both must be at least 1')

  def reset(seed: int) -> tuple[State, str]:
    digest = hashlib.sha256(f'guessing {top} {seed}'.encode()).digest()
    return State(1 + int.from_bytes(digest[:8], 'big') % top, turns), f'1-{top}:'

  def step(state: State, action: str) -> tuple[State, str, float, bool]:
    state = state._replace(left=state.left - 1)
    if not re.fullmatch(r'[0-9]{1,9}', action):
      return state, 'x', 0.0, state.left == 0
    guess = int(action)
    if guess == state.number:
      return state, '=', 1.0, True
    return state, '+' if guess < state.number else '-', 0.0, state.left == 0

  return Environment(f'guessing(top={top}, turns={turns})', turns, reset, step)


def halving(text: str) -> str:
  """The best guess after a conversation so far: the middle of what its hints leave."""
  low, high = map(int, re.match(r'(\d+)-(\d+):', text).groups())
  for guess, hint in re.findall(r'(\d+);([+-])', text):
    low, high = (int(guess) + 1, high) if hint == '+' else (low, int(guess) - 1)
  return str((low + high) // 2)
