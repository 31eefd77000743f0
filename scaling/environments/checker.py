"""A checker of answers: the policy solves a problem, is told that it is wrong, and solves it again.

    12+34-5=  12+34=46;46-5=42#42 <stop>  -\n  12+34=46;46-5=41#41 <stop>

The reward is 1 for the turn whose answer is right by the task's verifier, which ends the episode.
Of 'verdict' a wrong one is only called wrong; of 'hints' the policy is told whether the right
answer is larger or smaller, where both are numbers. SFT teaches to use it: config.data.corrected.
"""

import functools
from collections.abc import Callable

import numpy as np

from scaling.data import attempts
from scaling.environments.environment import Environment, Step
from scaling.rewards import verifiers


def make(style: str, hints: bool) -> Environment:
  """The checker for prompts of a style, with hints or without. Its state is the problem."""
  marks = attempts.marks(style)

  def step(problems, actions) -> list[Step]:
    found = verifiers.verify_all(problems, [[action] for action in actions])
    steps = []
    for problem, (verdict,) in zip(problems, found, strict=True):
      said = attempts.told(style, problem, verdict.answer, hints)
      reward = float(verdict.correct) if verdict.status == 'ok' else np.nan
      steps.append(Step(problem, said, reward, verdict.correct))
    return steps

  words = (marks.again, marks.larger, marks.smaller) if hints else (marks.again,)
  says = tuple(word + marks.revise for word in words)
  return Environment('hints' if hints else 'verdict', says, lambda problem: problem, step)


ENVIRONMENTS: dict[str, Callable[[str], Environment]] = {  # by the style of the prompts
  'verdict': functools.partial(make, hints=False),
  'hints': functools.partial(make, hints=True),
}
