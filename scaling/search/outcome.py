"""What every search is given, and what it gives back: one answer of each problem, and its cost.

search(problems, tools, k, **options) -> [Outcome of each problem]
"""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.data.vocab import Vocab
from scaling.errors import BadInput
from scaling.rewards.verifiers import Verdict, verify_all
from scaling.search import cost as costs
from scaling.search.generate import Generator

CHOICES = ('best', 'majority', 'weighted')


class Scorer(NamedTuple):
  """A process reward model, or any other judge of steps."""

  # (sequences of prompt and response, the places in each at which steps end) -> for each, the
  # probability at each place that a right answer follows
  score: Callable[[list[list[int]], list[list[int]]], list[list[float]]]
  # (length, cached, marks) -> model FLOPs of scoring a sequence at so many places, where its first
  # `cached` tokens were read before
  flops: Callable[[int, int, int], float]


class Tools(NamedTuple):
  """What a search works with."""

  cfg: object  # the policy's, for its FLOPs
  vocab: Vocab
  style: str  # of the prompts: data.style
  generator: Generator
  response_tokens: int  # the most of a response
  row_tokens: int  # positions that were trained
  scorer: Scorer | None = None
  run: int = 0  # repeats of a search differ by it
  examples: Sequence[Problem] = ()  # solved ones that may be shown: the SFT pool


class Outcome(NamedTuple):
  """Of one problem. value: the chance that the answer given is right, over ties alone."""

  problem: str
  value: float
  cost: costs.Cost


class Response(NamedTuple):
  """A whole response: prompt left out, stop token counted."""

  tokens: list[int]
  stopped: bool
  verdict: Verdict  # a response that was cut has no answer


def responses(
  tools: Tools, problems: Sequence[Problem], drawn: Sequence[Sequence]
) -> list[list[Response]]:
  """What was drawn for each problem, read: the verdicts on all of it at one go.

  drawn: of each problem, what has `tokens` and `stopped`.
  """
  texts = [[tools.vocab.decode(one.tokens) for one in ones if one.stopped] for ones in drawn]
  verdicts = itertools.chain.from_iterable(verify_all(problems, texts))
  read = lambda one: next(verdicts) if one.stopped else Verdict(False, None)
  return [[Response(one.tokens, one.stopped, read(one)) for one in ones] for ones in drawn]


def ends_of_steps(style: str) -> tuple[str, ...]:
  """The texts that end a step of a solution in this style."""
  return (';', '#') if style == 'short' else ('\n', '#')


def check_budget(name: str, k: int) -> None:
  """BadInput for a budget below 1."""
  if k < 1:
    raise BadInput(f'{name}: a budget of k = {k}: every one of config.search.budgets is at least 1')


def check_choice(name: str, choose: str, known=CHOICES) -> None:
  """BadInput for a rule of choice that the strategy does not have."""
  if choose not in known:
    raise BadInput(f'{name}: choose is {choose!r}: it must be one of {", ".join(known)}')


def check_scorer(name: str, tools: Tools) -> None:
  """BadInput where a search by scores has no scorer."""
  if tools.scorer is None:
    raise BadInput(f'{name}: it needs a scorer: set config.search.scorer to a process reward model')


def check_room(name: str, tools: Tools, longest: int) -> None:
  """BadInput where a prompt of so many tokens and a response would go beyond what was trained."""
  need = longest + tools.response_tokens
  if need > tools.row_tokens:
    raise BadInput(
      f'{name}: prompts of up to {longest} tokens and responses of {tools.response_tokens} take '
      f'{need} positions, and config.data.row_tokens is {tools.row_tokens}: raise it, or ask for '
      'less'
    )


def showing(tools: Tools, write: Callable[[str], str], attempt: str, more: int) -> list[int]:
  """The ids of the prompt write(attempt), to be followed by `more` tokens.

  Text that is no text (bytes out of place) may take more tokens than it was drawn as; where that is
  too much for the positions that were trained its end is left out.
  """
  ids = tools.vocab.prompt(write(attempt))
  while attempt and len(ids) + more > tools.row_tokens:
    attempt = attempt[:-1]
    ids = tools.vocab.prompt(write(attempt))
  return ids


def chosen(responses: Sequence[Response], weights: Sequence[float], choose: str) -> float:
  """The value of the answer that is chosen among responses; ties share it.

  best: the response of greatest weight; majority: the answer given most often; weighted: the answer
  whose responses' weights have the greatest sum. A response without an answer is not chosen and has
  no vote; where none has one the value is 0.
  """
  pairs = zip(responses, weights, strict=True)
  answered = [(r.verdict, weight) for r, weight in pairs if r.verdict.answer is not None]
  if not answered:
    return 0.0
  if choose == 'best':
    top = max(weight for _, weight in answered)
    tied = [verdict.correct for verdict, weight in answered if weight == top]
    return sum(tied) / len(tied)
  votes, right = {}, {}
  for verdict, weight in answered:
    answer = verdict.answer
    votes[answer] = votes.get(answer, 0.0) + (1.0 if choose == 'majority' else weight)
    right[answer] = right.get(answer, False) or verdict.correct
  top = max(votes.values())
  tied = [right[answer] for answer, sum_ in votes.items() if sum_ == top]
  return sum(tied) / len(tied)
