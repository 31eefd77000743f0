"""Prepared data, read back: a batch is a function of (seed, step).

No TensorFlow here: a machine without it trains from a folder that `scaling.data.tasks` prepared.
Axes: R rows of a pool, B rows of a batch, T tokens of a row, P prompts.
"""

import functools
import hashlib
import json
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq

from scaling.data import vocab as vocabs
from scaling.data.vocab import Vocab
from scaling.errors import BadInput

POOLS = ('sft', 'rl', 'validation', 'test', 'reward')  # problems; 'pretrain' has rows alone
TALLY = 'tally.npy'
PACKED = ('pretrain', 'sft', 'validation')
SUBSET = 2**32  # names the permutation that subsets are the head of: no epoch of a walk
LONG_EXAMPLES = ('error', 'drop')  # what becomes of an example longer than a row
CONTAMINATION = ('error', 'drop', 'allow')  # … of one that shares words with a held-out prompt
LOSS_ON = ('responses', 'all')


class DataSpec(NamedTuple):
  """What to prepare. The five pools share no problem; pretraining sees no rl or held-out one."""

  task: str  # 'chain_sum(min_terms=3, max_terms=3)' or "jsonl(path='a.jsonl')"
  pretrain_tasks: tuple[str, ...]  # a mixture
  style: str  # 'short': the bare expression; 'full', 'chat': the task's own question
  vocab: str  # a character vocabulary, bpe(N), or the path of a tokenizer: see vocab.py
  row_tokens: int  # T
  seed: int
  sft: int | None  # problems; None: all that a JSONL file has left (one pool at most)
  rl: int | None
  validation: int | None
  test: int | None
  pretrain: int  # examples over all of pretrain_tasks
  long_examples: str = 'error'  # of LONG_EXAMPLES; 'drop': pools are filled with those that fit
  reward: int | None = 0  # problems whose samples reward models learn from
  # The part of SFT examples that show an earlier attempt, to be revised or judged: see attempts.py.
  attempts: float = 0.0
  reversed: float = 0.0  # … that show a solution, whose prompt is to be written
  loss_on: str = 'responses'  # of LOSS_ON, for the SFT pool
  # More tasks, mixed into the SFT pool: so many examples of each for one of `task`; (): one.
  sft_tasks: tuple[str, ...] = ()
  sft_rates: tuple[float, ...] = ()
  pretrain_rates: tuple[float, ...] = ()  # of pretrain_tasks; (): equal
  pretrain_temperature: float = 0.0  # T: rates are a file's size ^ (1 / T); 0: as pretrain_rates
  near_duplicates: float = 0.0  # the Jaccard index from which on problems of a file are one; 0: off
  contamination: str = 'error'  # of CONTAMINATION: see contamination.py
  ngram: int = 13
  # The part of SFT examples that are conversations: a wrong attempt, what it is told, the solution.
  corrected: float = 0.0


class Problem(NamedTuple):
  """One problem. The prompt and the solution are text; the response to learn is the solution."""

  id: str  # '<task>-<16 hex of its content>'
  task: str  # a reasoning-gym name, or one of problem_files.ARGUMENTS
  prompt: str
  solution: str  # worked steps, '#', the answer
  answer: str  # canonical
  entry: dict  # what its scorer reads: the reasoning-gym entry, the tests of 'code'


class Data(NamedTuple):
  """The index of a prepared folder."""

  folder: pathlib.Path
  spec: dict
  vocab: Vocab
  counts: dict  # pool -> {problems, dropped, rows, tokens, loss_tokens}
  max_prompt_tokens: int  # of the problems of data.task: what is mixed into SFT is left out
  max_response_tokens: int  # … with the stop token
  unlike: dict  # pool whose prompts are unlike the test problems' -> {at_most, test, there}
  sources: dict  # path -> SHA-256 of the files that it was made from
  versions: dict  # of the packages that decided what they are


class Packed(NamedTuple):
  """A pool as rows [R, T], memory-mapped. Segment 0 is padding; positions restart in a segment.

  The loss at token t is about token t given the earlier ones of its own segment, so the first token
  of every segment is out of the mask.
  """

  tokens: np.ndarray  # uint16, or uint32 where the vocabulary is larger
  positions: np.ndarray  # uint16
  segment_ids: np.ndarray  # uint16
  loss_mask: np.ndarray  # bool


def load(folder) -> Data:
  """The index of a prepared folder. Raises BadInput where there is none."""
  folder = pathlib.Path(folder)
  try:
    index = json.loads((folder / 'data.json').read_text())
  except FileNotFoundError:
    raise BadInput(f'{folder}: no data.json: this is not a folder of prepared data') from None
  return Data(
    folder=folder,
    spec=index['spec'],
    vocab=vocabs.named(
      index['vocab']['name'], index['spec']['style'] == 'chat', folder / 'tokenizer'
    ),
    counts=index['counts'],
    max_prompt_tokens=index['max_prompt_tokens'],
    max_response_tokens=index['max_response_tokens'],
    unlike=index.get('unlike', {}),
    sources=index['sources'],
    versions=index['versions'],
  )


def packed(folder, pool: str) -> Packed:
  """The rows of a pool. Raises BadInput where the pool is empty."""
  folder = pathlib.Path(folder) / pool
  if not folder.is_dir():
    raise BadInput(f'{folder}: no such pool was prepared: ask for more than 0 of {pool!r}')
  return Packed(*(np.load(folder / f'{name}.npy', mmap_mode='r') for name in Packed._fields))


def picked(total: int, seed: int, step: int, rows: int) -> np.ndarray:
  """The numbers int64 [B] of a pool's rows, out of `total`, in batch `step` of an endless walk.

  Number i of the batch is number step * B + i of the walk, B = `rows`; the walk is one fresh
  permutation of all rows after another: every row comes once an epoch, a batch may straddle two.
  """
  return walk(seed, step * rows, rows, total)


def subset(total: int, count: int) -> np.ndarray:
  """The numbers int64 [count] of `count` of a pool's `total` rows; a larger subset begins with it.

  They are the head of one fixed permutation: the order of packed rows may follow their lengths.
  """
  return _permutation(0, SUBSET, total)[:count]


def read(rows_of: Packed, numbers: np.ndarray) -> dict[str, np.ndarray]:
  """The rows of these numbers, from disk: arrays of int32 (loss_mask bool)."""
  wide = {name: np.asarray(array[numbers]) for name, array in rows_of._asdict().items()}
  return {name: x if x.dtype == bool else x.astype(np.int32) for name, x in wide.items()}


def tally(folder, pool: str) -> np.ndarray:
  """Of each row of a pool, int64 [R, 3]: real tokens, the keys that they attend to, counted tokens.

  So that a process which reads a part of a batch knows the sums over all of it.
  """
  return np.load(pathlib.Path(folder) / pool / TALLY)


def tallied(rows: dict[str, np.ndarray]) -> np.ndarray:
  """The `tally` of rows: int64 [R, 3]."""
  real = rows['segment_ids'] > 0
  keys = np.where(real, rows['positions'].astype(np.int64) + 1, 0)
  return np.stack([x.sum(axis=1, dtype=np.int64) for x in (real, keys, rows['loss_mask'])], axis=1)


def rl_prompts(seed: int, update: int, count: int, total: int) -> np.ndarray:
  """Indices int64 [count] of the prompts of an RL update, out of `total`; no prompt comes twice.

  Updates walk a fresh permutation an epoch, and leave out what is less than an update at its end.
  """
  if total < count:
    raise BadInput(f'an RL update draws {count} prompts and there are {total}: prepare more')
  epoch, i = divmod(update, total // count)
  return _permutation(seed, epoch, total)[i * count : (i + 1) * count]


def problems(folder, pool: str) -> list[Problem]:
  """The problems of a pool, in the order in which they were drawn."""
  path = pathlib.Path(folder) / 'problems.parquet'
  if pool not in POOLS:
    raise BadInput(f'no pool {pool!r}: the pools of problems are {", ".join(POOLS)}')
  columns = list(Problem._fields)
  table = pq.read_table(path, columns=columns, filters=[('pool', '==', pool)])
  rows = zip(*(table[name].to_pylist() for name in columns))
  return [Problem(*row[:-1], entry=json.loads(row[-1])) for row in rows]


def encode_prompts(
  chosen: Sequence[Problem], vocab: Vocab, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """(tokens int32 [P, width] padded on the right, lengths int32 [P], hashes uint32 [P, 2]).

  A hash is the head of the SHA-256 of the prompt's text: sampling keys are made from it.
  Raises BadInput for a prompt longer than `width`.
  """
  tokens = np.zeros((len(chosen), width), np.int32)
  lengths = np.zeros(len(chosen), np.int32)
  hashes = np.zeros((len(chosen), 2), np.uint32)
  for i, problem in enumerate(chosen):
    ids = vocab.prompt(problem.prompt)
    if len(ids) > width:
      raise BadInput(
        f'problem {problem.id}: its prompt has {len(ids)} tokens and the context has room for '
        f'{width}: raise it, or make the problems smaller'
      )
    tokens[i, : len(ids)] = ids
    lengths[i] = len(ids)
    hashes[i] = np.frombuffer(hashlib.sha256(problem.prompt.encode()).digest()[:8], '<u4')
  return tokens, lengths, hashes


def walk(seed: int, start: int, count: int, total: int) -> np.ndarray:
  """Items start ... start + count - 1 of permutations of range(total), one epoch after another."""
  if total < 1:
    raise BadInput('a pool with nothing in it cannot be walked: ask for at least one problem')
  parts = []
  while count:
    epoch, offset = divmod(start, total)
    part = _permutation(seed, epoch, total)[offset : offset + count]
    parts.append(part)
    start, count = start + len(part), count - len(part)
  return np.concatenate(parts) if parts else np.zeros(0, np.int64)


@functools.lru_cache(maxsize=16)
def _permutation(seed: int, epoch: int, total: int) -> np.ndarray:
  """A permutation of range(total) from raw Philox bits: NumPy keeps that stream for good."""
  raw = np.random.Philox(np.random.SeedSequence([seed, epoch])).random_raw(total)
  return np.argsort(raw, kind='stable')
