"""What a response is rewarded for: the feedback of RL, by name.

    feedback(update, problems, texts, sequences, prompt_lengths, stopped) -> Reward

    verifier          the task's verdict; mistakes may be put in, at given rates
    OBJECTIVE SIZE    a reward model of config.scorers: its probability of being right
    judge SIZE        the verdict of an SFT branch of that size on the response
    none              nothing: what is learned is a teacher's

A response that did not stop gets 0 from the verifier, and whatever a model says of it. One on which
there is no verdict (a time-out, a judge without a score) gets 0 and is counted.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scaling import compute, processes
from scaling.errors import BadInput
from scaling.rewards import audit, verifiers


class Reward(NamedTuple):
  rewards: np.ndarray  # float64 [P, G], finite
  gold: np.ndarray  # float64 [P, G]: the verifier's, 0 or 1
  no_verdict: int  # responses that the feedback could not judge
  ledger: dict


def gold_of(problems, texts, stopped) -> tuple[np.ndarray, np.ndarray]:
  """(1 for a response that stops and is verified else 0, whether there was a verdict), [P, G].

  Of several processes the first verifies for all: a time-out need not be one everywhere.
  """
  said = [
    [t if whole else '' for t, whole in zip(*row, strict=True)] for row in zip(texts, stopped)
  ]

  def verdicts():
    found = verifiers.verify_all(problems, said)
    return [[(one.correct, one.status == 'ok') for one in ones] for ones in found]

  found = np.array(processes.once(verdicts), bool)
  return found[..., 0].astype(np.float64), found[..., 1]


def by_verifier(seed: int, false_positive: float = 0.0, false_negative: float = 0.0) -> Callable:
  """Feedback by the task's own verdict, with mistakes at the given rates (`audit.noisy`)."""

  def feedback(update, problems, texts, sequences, prompt_lengths, stopped) -> Reward:
    del sequences, prompt_lengths
    gold, there = gold_of(problems, texts, stopped)
    said = gold
    if false_positive or false_negative:
      ids = [problem.id for problem in problems]
      said = audit.noisy(gold > 0, false_positive, false_negative, seed, update, ids) * 1.0
    return Reward(said, gold, int((~there).sum()), compute.empty())

  return feedback


def by_model(says: Callable, name: str) -> Callable:
  """Feedback by a model: says(problems, texts, sequences, prompt_lengths) -> (values, ledger).

  Values are probabilities, NaN where there is none. BadInput for any other outside [0, 1].
  """

  def feedback(update, problems, texts, sequences, prompt_lengths, stopped) -> Reward:
    del update
    gold, _ = gold_of(problems, texts, stopped)
    values, ledger = says(problems, texts, sequences, prompt_lengths)
    missing = np.isnan(values)
    rewards = np.where(missing, 0.0, values)
    check(rewards, 0, 1, name)
    return Reward(rewards, gold, int(missing.sum()), ledger)

  return feedback


def nothing() -> Callable:
  """No feedback: rewards of 0; the verifier's verdicts are recorded all the same."""

  def feedback(update, problems, texts, sequences, prompt_lengths, stopped) -> Reward:
    gold, there = gold_of(problems, texts, stopped)
    return Reward(np.zeros(gold.shape), gold, int((~there).sum()), compute.empty())

  return feedback


def check(rewards: np.ndarray, low: float, high: float, name: str) -> None:
  """BadInput for rewards that are not finite, or outside [low, high]."""
  wrong = ~np.isfinite(rewards) | (rewards < low) | (rewards > high)
  if wrong.any():
    p, g = np.argwhere(wrong)[0]
    raise BadInput(
      f'config.rl.reward={name!r}: the reward of response {g} to prompt {p} is {rewards[p, g]}; '
      f'it must be a finite number in [{low:g}, {high:g}]'
    )
