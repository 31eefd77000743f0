"""Preferences between two responses to a prompt, read from files (JSONL, JSONL.gz, Parquet).

A row of a file is one of

    {"chosen": "<dialogue>", "rejected": "<dialogue>"}      as hh-rlhf has it (2204.05862)
    {"prompt": "...", "chosen": "...", "rejected": "..."}

Both dialogues of a line begin alike; the prompt is what they share up to the last TURN, and the two
responses are the rest. Preferences over a bank's samples need no file: `reward_model.contrasts`.

Axes: R pairs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scaling.data import sources
from scaling.data.problem_files import json_object
from scaling.data.vocab import Vocab
from scaling.errors import BadInput

FIELDS = ('chosen', 'rejected', 'prompt')
TURN = '\n\nAssistant:'  # opens a response in a dialogue


class Pair(NamedTuple):
  prompt: str
  chosen: str
  rejected: str
  where: str  # file:line


class File(NamedTuple):
  """What a file holds."""

  pairs: list[Pair]
  equal: int  # lines whose two responses are the same, left out
  repeated: int  # lines that came before, left out


class Tokenised(NamedTuple):
  """Pairs as tokens."""

  sequences: list  # 2 R arrays int32: prompt, response, stop token; each chosen, then its rejected
  starts: np.ndarray  # int [2 R]: tokens of the prompt
  rows: np.ndarray  # int [R, 2]: the sequences of the chosen and the rejected response
  prompts: np.ndarray  # object [R]: the prompts' texts
  dropped: int  # pairs that were longer than a row


def fingerprint(path: str) -> str:
  """A hash of a file. BadInput where it cannot be read."""
  return sources.fingerprint(path)[:16]


def identity(path: str) -> dict:
  """What a recipe says of a file of pairs. BadInput, before anything runs, where it is none."""
  read(path)
  return {'path': path, 'fingerprint': fingerprint(path)}


def read(path: str) -> File:
  """The pairs of a file, each once, without those whose two responses are the same.

  BadInput, naming file and line, for a line that is no pair, and where no pair is left.
  """
  found, equal, repeated = {}, 0, 0
  for where, row in sources.rows(path, FIELDS):
    pair = _pair(json_object(row, where, FIELDS) if isinstance(row, bytes) else row, where)
    if pair.chosen == pair.rejected:
      equal += 1
    elif pair[:3] in found:
      repeated += 1
    else:
      found[pair[:3]] = pair
  if not found:
    words = f'{equal} pairs, each of two equal responses' if equal else 'no pairs in it'
    raise BadInput(f'{path}: {words}: it needs lines with a chosen and another rejected response')
  return File(list(found.values()), equal, repeated)


def _pair(row: dict, where: str) -> Pair:
  for field in ('chosen', 'rejected', *(['prompt'] if 'prompt' in row else [])):
    if not isinstance(row.get(field), str):
      state = 'no text' if field in row else 'missing'
      raise BadInput(f'{where}: the field {field!r} is {state}: every line needs it, a text')
  if 'prompt' not in row:
    return _split(row['chosen'], row['rejected'], where)
  if not row['prompt']:
    raise BadInput(f"{where}: the field 'prompt' is empty: a response needs something before it")
  return Pair(row['prompt'], row['chosen'], row['rejected'], where)


def _split(chosen: str, rejected: str, where: str) -> Pair:
  """A pair out of two dialogues, at the last TURN of what they have in common."""
  alike = next(
    (i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
    min(len(chosen), len(rejected)),
  )
  cut = chosen[:alike].rfind(TURN)
  if cut < 0:
    raise BadInput(
      f'{where}: the two dialogues share no {TURN!r}, after which they would differ: give the '
      "prompt in a field 'prompt'"
    )
  cut += len(TURN)
  return Pair(chosen[:cut], chosen[cut:], rejected[cut:], where)


def tokenise(
  pairs: Sequence[Pair], vocab: Vocab, row_tokens: int, long_examples: str = 'error'
) -> Tokenised:
  """Pairs as a model reads them; of long_examples: see config.data.long_examples.

  BadInput for a character that the vocabulary has not, for a pair longer than row_tokens where they
  are not dropped, for two responses that are the same tokens, and where no pair is left.
  """
  sequences, starts, prompts, dropped = [], [], [], 0
  for pair in pairs:
    for text in pair[:3]:
      lost = vocab.missing(text)
      if lost is not None:
        raise BadInput(
          f'{pair.where}: has {lost!r}, and config.data.vocab={vocab.name} has not: use bytes, or '
          'a tokenizer'
        )
    prompt = vocab.prompt(pair.prompt)
    both = [[*prompt, *vocab.encode(text), vocab.stop] for text in (pair.chosen, pair.rejected)]
    longest = max(map(len, both))
    if longest > row_tokens and long_examples == 'error':
      raise BadInput(
        f'{pair.where}: {longest} tokens, and config.data.row_tokens is {row_tokens}: raise it, or '
        "set config.data.long_examples='drop'"
      )
    if longest > row_tokens:
      dropped += 1
      continue
    if both[0] == both[1]:
      raise BadInput(f'{pair.where}: the two responses are the same tokens: remove the line')
    sequences += [np.array(ids, np.int32) for ids in both]
    starts += [len(prompt)] * 2
    prompts.append(pair.prompt)
  if not prompts:
    raise BadInput(
      f'{pairs[0].where.rpartition(":")[0]}: all {len(pairs)} pairs are longer than '
      f'config.data.row_tokens ({row_tokens}): raise it'
    )
  rows = np.arange(2 * len(prompts)).reshape(-1, 2)
  return Tokenised(sequences, np.array(starts), rows, np.array(prompts, object), dropped)
