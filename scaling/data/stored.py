"""The problems of a file, kept on disk: read once, then each where and when it is asked for.

In memory there are 40 bytes a problem, whatever its text: where it is, a hash of its prompt, its
place in the order that pools are filled in, and its tokens.
"""

import array
import collections
import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from scaling.data import problem_files
from scaling.data.batches import Problem
from scaling.data.problem_files import Draft
from scaling.data.vocab import Vocab


def number_from(*parts) -> int:
  """A 62-bit integer from a hash: a seed, or a place in an order."""
  return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], 'big') >> 2


class File(NamedTuple):
  """What was read of a file: N problems, some of them perhaps more than once."""

  name: str  # of the task
  path: str
  drafts: BinaryIO  # a line of JSON each
  offsets: np.ndarray  # int64 [N + 1], into it
  keys: np.ndarray  # uint64 [N], of the prompts: equal where they are
  orders: np.ndarray  # int64 [N]
  tokens: np.ndarray  # int32 [N, 2], of prompt and response; -1 before `measure`
  counts: dict  # lines, bad_lines, repeated


class Stored(Sequence):
  """Some problems of a file, in an order. A slice is another such sequence."""

  def __init__(self, file: File, numbers: np.ndarray):
    self.file, self.numbers = file, numbers

  def __len__(self):
    return len(self.numbers)

  @property
  def keys(self) -> np.ndarray:
    """Of their prompts: uint64, equal where these are."""
    return self.file.keys[self.numbers]

  def __getitem__(self, i):
    if isinstance(i, slice):
      return Stored(self.file, self.numbers[i])
    return _draft(self.file, int(self.numbers[i]))


def read(name: str, path: str, arguments: dict, style: str, seed: int, folder=None) -> File:
  """Reads a file once and keeps its problems in a temporary file of `folder`. BadInput as
  `problem_files.read` raises it."""
  counts = collections.Counter(lines=0, bad_lines=0)
  kept = tempfile.TemporaryFile(dir=folder)
  offsets, keys, orders = array.array('q', [0]), array.array('Q'), array.array('q')
  at = 0
  for draft in problem_files.read(name, path, arguments, style, counts):
    problem, line = draft.problem, draft.origin.rpartition(':')[2]
    values = [line, problem.prompt, problem.solution, problem.answer, problem.entry]
    at += kept.write(json.dumps(values).encode() + b'\n')
    offsets.append(at)
    keys.append(problem_files.number(problem.id))
    orders.append(number_from(seed, draft.key))
  kept.flush()
  keys = np.array(keys, np.uint64)
  counts['repeated'] = len(keys) - len(np.unique(keys))
  tokens = np.full((len(keys), 2), -1, np.int32)
  return File(
    name, path, kept, np.array(offsets), keys, np.array(orders, np.int64), tokens, dict(counts)
  )


def distinct(file: File) -> Stored:
  """Each problem once, the first where it comes again, in an order that hangs on its content alone:
  a new line moves no other."""
  _, first = np.unique(file.keys, return_index=True)
  first.sort()
  return Stored(file, first[np.argsort(file.orders[first], kind='stable')])


def measure(file: File, vocab: Vocab) -> None:
  """Fills in `tokens`: lengths of the prompt and of the response, its stop token included."""
  for number in range(len(file.keys)):
    problem = _draft(file, number).problem
    file.tokens[number] = example_tokens(problem, vocab)


def example_tokens(problem: Problem, vocab: Vocab) -> tuple[int, int]:
  """Lengths of the prompt and of the response, its stop token included."""
  return len(vocab.prompt(problem.prompt)), len(vocab.encode(problem.solution)) + 1


def _draft(file: File, number: int) -> Draft:
  start, end = int(file.offsets[number]), int(file.offsets[number + 1])
  line, prompt, *rest = json.loads(os.pread(file.drafts.fileno(), end - start, start))
  problem = Problem(problem_files.identity(file.name, prompt), file.name, prompt, *rest)
  return Draft(problem, prompt, f'{file.path}:{line}')
