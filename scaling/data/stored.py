"""The problems of a file, kept on disk: read once, then each where and when it is asked for. Their
tokens likewise: encoded once, in the order in which pools are filled.

In memory there are 45 bytes a problem, whatever its text: where it is, a hash of its prompt, its
place in that order, and where its tokens are.
"""

import array
import collections
import hashlib
import marshal
import os
import tempfile
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from scaling.data import problem_files
from scaling.data.batches import Problem
from scaling.data.problem_files import Draft
from scaling.data.vocab import Vocab, contents


def number_from(*parts) -> int:
  """A 62-bit integer from a hash: a seed, or a place in an order."""
  return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], 'big') >> 2


class Tokens:
  """Examples as tokens, in a temporary file of `folder`; `begin` says of which vocabulary."""

  def __init__(self, folder=None):
    self.file, self.vocab = tempfile.TemporaryFile(dir=folder), None

  def begin(self, vocab: Vocab) -> None:
    """Forgets what there was."""
    self.vocab, self.type = vocab, np.dtype(np.uint16 if vocab.size <= 2**16 else np.uint32)
    self.file.seek(0)
    self.file.truncate()
    self.ends, self.prompts = array.array('q', [0]), array.array('i')  # in tokens
    self.unwritten = array.array('b')  # 1 where the vocabulary lacks a character

  def add(self, problem: Problem) -> int:
    """Encodes an example: prompt, response, stop token. Its number."""
    prompt = self.vocab.prompt(problem.prompt)
    ids = [*prompt, *self.vocab.encode(problem.solution), self.vocab.stop]
    self.file.write(array.array(self.type.char, ids))
    self.ends.append(self.ends[-1] + len(ids))
    self.prompts.append(len(prompt))
    self.unwritten.append(
      self.vocab.missing(contents(problem.prompt) + problem.solution) is not None
    )
    return len(self.prompts) - 1

  def sequence(self, number: int) -> tuple[np.ndarray, int]:
    """(prompt + response + stop token, tokens of the prompt) of an example."""
    size, start, end = self.type.itemsize, self.ends[number], self.ends[number + 1]
    self.file.flush()
    read = os.pread(self.file.fileno(), (end - start) * size, start * size)
    return np.frombuffer(read, self.type), self.prompts[number]


class Encoded(NamedTuple):
  """Some examples as tokens, in an order."""

  tokens: Tokens
  numbers: np.ndarray  # int64 [N], in it

  @property
  def lengths(self) -> np.ndarray:
    """Tokens int64 [N, 2] of the prompts, and of the responses with their stop token."""
    ends = np.frombuffer(self.tokens.ends, np.int64)
    prompts = np.frombuffer(self.tokens.prompts, np.int32)[self.numbers].astype(np.int64)
    whole = ends[self.numbers + 1] - ends[self.numbers]
    return np.stack([prompts, whole - prompts], axis=1)

  @property
  def unwritten(self) -> np.ndarray:
    """Where the vocabulary lacks a character: bool [N]."""
    return np.frombuffer(self.tokens.unwritten, bool)[self.numbers]


class File(NamedTuple):
  """What was read of a file: N problems, some of them perhaps more than once."""

  name: str  # of the task
  path: str
  drafts: BinaryIO  # a list of `marshal` each: no other program reads it
  offsets: np.ndarray  # int64 [N + 1], into it
  keys: np.ndarray  # uint64 [N], of the prompts: equal where they are
  orders: np.ndarray  # int64 [N]
  tokens: Tokens
  encoded: np.ndarray  # int64 [N], numbers in `tokens`; -1: not yet
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


def read(
  name: str, path: str, arguments: dict, style: str, seed: int, folder=None, prompt=None
) -> File:
  """Reads a file once and keeps its problems in a temporary file of `folder`. prompt, BadInput: as
  of `problem_files.read`."""
  counts = collections.Counter(lines=0, bad_lines=0)
  kept = tempfile.TemporaryFile(dir=folder)
  offsets, keys, orders = array.array('q', [0]), array.array('Q'), array.array('q')
  at = 0
  for draft in problem_files.read(name, path, arguments, style, counts, prompt):
    problem, line = draft.problem, draft.origin.rpartition(':')[2]
    values = [line, problem.prompt, problem.solution, problem.answer, problem.entry]
    at += kept.write(marshal.dumps(values))
    offsets.append(at)
    keys.append(problem_files.number(problem.id))
    orders.append(number_from(seed, draft.key))
  kept.flush()
  keys = np.array(keys, np.uint64)
  counts['repeated'] = len(keys) - len(np.unique(keys))
  offsets, orders = np.array(offsets), np.array(orders, np.int64)
  encoded = np.full(len(keys), -1, np.int64)
  return File(name, path, kept, offsets, keys, orders, Tokens(folder), encoded, dict(counts))


def distinct(file: File) -> Stored:
  """Each problem once, the first where it comes again, in an order that hangs on its content alone:
  a new line moves no other."""
  _, first = np.unique(file.keys, return_index=True)
  first.sort()
  return Stored(file, first[np.argsort(file.orders[first], kind='stable')])


def encode(drafts: Sequence[Draft], vocab: Vocab, folder=None) -> Encoded:
  """Problems as tokens. Those of a file that are encoded already are not encoded again."""
  if not isinstance(drafts, Stored):
    tokens = Tokens(folder)
    tokens.begin(vocab)
    return Encoded(tokens, np.array([tokens.add(draft.problem) for draft in drafts], np.int64))
  file = drafts.file
  if file.tokens.vocab != vocab:
    file.tokens.begin(vocab)
    file.encoded[:] = -1
  for number in drafts.numbers[file.encoded[drafts.numbers] < 0].tolist():
    if file.encoded[number] < 0:  # some come twice
      file.encoded[number] = file.tokens.add(_draft(file, number).problem)
  return Encoded(file.tokens, file.encoded[drafts.numbers])


def example_tokens(problem: Problem, vocab: Vocab) -> tuple[int, int]:
  """Lengths of the prompt and of the response, its stop token included."""
  return len(vocab.prompt(problem.prompt)), len(vocab.encode(problem.solution)) + 1


def _draft(file: File, number: int) -> Draft:
  start, end = int(file.offsets[number]), int(file.offsets[number + 1])
  line, prompt, *rest = marshal.loads(os.pread(file.drafts.fileno(), end - start, start))
  id = problem_files.named(file.name, int(file.keys[number]))
  return Draft(Problem(id, file.name, prompt, *rest), prompt, f'{file.path}:{line}')
