"""Whether what is learned from holds prompts that are measured on: shared runs of words.

A text to learn from is contaminated where `ngram` words that follow each other in it (13 in
2005.14165) also follow each other in a held-out prompt. Words are compared without case and marks.
A prompt of fewer words is not looked for: equal prompts are kept apart whatever their length, and
short ones, as arithmetic has them, are alike without being copied. Nor is a run that is half a
template: many prompts have a system's message, or a question that opens alike, and a run over its
end says nothing of the words that are a prompt's own.
"""

import collections
import re
from collections.abc import Iterable
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.data.problem_files import Draft
from scaling.data.vocab import contents

WORDS = re.compile(r'\w+')
# Half a run is of a template in more than this part of the prompts, and at least so many.
TEMPLATE = 0.01, 3


class HeldOut(NamedTuple):
  """The prompts to look for."""

  ngram: int
  runs: dict[str, str]  # ngram words -> where the prompt is that has them
  halves: set[str]  # all runs of half as many words in them: see `shared`
  prompts: int
  short: int  # of those, with fewer words
  templates: int  # runs that were left out


def _words(text: str) -> list[str]:
  return WORDS.findall(text.casefold())


def _runs(words: list[str], n: int) -> list[str]:
  return [' '.join(words[i : i + n]) for i in range(len(words) - n + 1)]


def held_out(drafts: Iterable[Draft], ngram: int) -> HeldOut:
  """What to look for, of held-out problems."""
  half = (ngram + 1) // 2
  of, often, prompts, short = {}, collections.Counter(), 0, 0
  for draft in drafts:
    words = _words(contents(draft.problem.prompt))
    often.update(set(_runs(words, half)))
    for run in _runs(words, ngram):
      of.setdefault(run, draft.origin)
    prompts, short = prompts + 1, short + (len(words) < ngram)
  part, least = TEMPLATE
  template = {run for run, times in often.items() if times >= least and times > part * prompts}
  runs, halves = {}, set()
  for run, origin in of.items():
    parts = _runs(run.split(), half)
    if template.isdisjoint(parts):
      runs[run] = origin
      halves.update(parts)
  return HeldOut(ngram, runs, halves, prompts, short, len(of) - len(runs))


def shared(held: HeldOut, problem: Problem) -> tuple[str, str] | None:
  """(the first words, where the held-out prompt is) that a prompt or its solution shares with one
  of `held`; None for none."""
  n = held.ngram
  half = (n + 1) // 2
  for text in (contents(problem.prompt), problem.solution):
    words = _words(text)
    # any n words in a row have a half that begins at a multiple of its length
    halves = [' '.join(words[i : i + half]) for i in range(0, len(words), half)]
    if not held.halves.isdisjoint(halves):
      for run in _runs(words, n):
        if run in held.runs:
          return run, held.runs[run]
  return None
