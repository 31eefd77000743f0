"""Whether what is learned from holds prompts that are measured on: shared runs of words.

A text to learn from is contaminated where `ngram` words that follow each other in it (13 in
2005.14165) also follow each other in a held-out prompt. Words are compared without case and marks.
A prompt of fewer words is not looked for: equal prompts are kept apart whatever their length, and
short ones, as arithmetic has them, are alike without being copied. Nor is a run of words that many
prompts have, which is their template.
"""

import collections
import re
from collections.abc import Iterable
from typing import NamedTuple

from scaling.data.batches import Problem
from scaling.data.problem_files import Draft

WORDS = re.compile(r'\w+')
TEMPLATE = 0.01, 3  # a run is of a template in more than this part of the prompts, and so many


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
  of, often, prompts, short = {}, collections.Counter(), 0, 0
  for draft in drafts:
    found = dict.fromkeys(_runs(_words(draft.problem.prompt), ngram))
    often.update(found.keys())
    for run in found:
      of.setdefault(run, draft.origin)
    prompts, short = prompts + 1, short + (not found)
  part, least = TEMPLATE
  template = {run for run, times in often.items() if times >= least and times > part * prompts}
  runs = {run: origin for run, origin in of.items() if run not in template}
  halves = {half for run in runs for half in _runs(run.split(), (ngram + 1) // 2)}
  return HeldOut(ngram, runs, halves, prompts, short, len(template))


def shared(held: HeldOut, problem: Problem) -> tuple[str, str] | None:
  """(the first words, where the held-out prompt is) that a prompt or its solution shares with one
  of `held`; None for none."""
  n = held.ngram
  half = (n + 1) // 2
  for text in (problem.prompt, problem.solution):
    words = _words(text)
    # any n words in a row have a half that begins at a multiple of its length
    halves = [' '.join(words[i : i + half]) for i in range(0, len(words), half)]
    if not held.halves.isdisjoint(halves):
      for run in _runs(words, n):
        if run in held.runs:
          return run, held.runs[run]
  return None
