"""Where a response ends: a finite automaton over the texts of tokens, run on the device.

Its table, int32 [A, V], has a row for each state and a column for each token. State 0 is the start;
a state stands for the longest end of the text so far that begins a stop string (1975, Aho and
Corasick), so a stop string is found however the response's tokens cut it; A - 1 is the end. The
number of states is a power of two, some of them unused, so that few programs are compiled.
"""

import collections
import itertools
from collections.abc import Sequence

import numpy as np

from scaling.data.vocab import Vocab
from scaling.errors import BadInput

KEY = 'config.sample.stop'
NO_BYTE = 256  # the byte that a short text is padded with: it leads from each state to itself


def table(
  vocab: Vocab, tokens: Sequence[int], strings: Sequence[str] = (), key: str = KEY
) -> np.ndarray:
  """The automaton that ends at any of the tokens, and where the text holds any of the strings.

  The text of a response is that of its tokens' bytes end to end (`Vocab.spelled`); the token that
  completes a stop string is the response's last, with all of its text.

  Args:
    vocab: the vocabulary, of V tokens.
    tokens: ids that end a response, such as vocab.stop; not empty.
    strings: texts that end it.
    key: what a message names.

  Raises:
    BadInput: a string is empty, or no tokens spell it; an id is outside the vocabulary.
  """
  for token in tokens:
    if not 0 <= token < vocab.size:
      raise BadInput(f'{key}: token {token} is not among the {vocab.size} of {vocab.name!r}')
  if not strings:
    result = np.zeros((2, vocab.size), np.int32)
    result[1], result[:, list(tokens)] = 1, 1
    return result
  texts = _padded(vocab.spelled())
  for string in strings:
    if not string:
      raise BadInput(f'{key} has an empty string, at which any response would end: leave it out')
    if not _can_spell(_over_tokens(_over_bytes([string.encode('utf-8', 'replace')]), texts)):
      raise BadInput(
        f'{key} has {string!r}, which no tokens of the vocabulary {vocab.name!r} spell: leave it '
        'out, or name a vocabulary that has its characters'
      )
  found = _over_tokens(_over_bytes([s.encode('utf-8', 'replace') for s in strings]), texts)
  last = 2 ** int(np.ceil(np.log2(len(found)))) - 1
  result = np.full((last + 1, vocab.size), last, np.int32)
  result[: len(found) - 1] = np.where(found[:-1] == len(found) - 1, last, found[:-1])
  result[:, list(tokens)] = last
  return result


def _over_bytes(strings: list[bytes]) -> np.ndarray:
  """The automaton over bytes, int32 [A, 257]: column NO_BYTE stays; its last state absorbs."""
  children, ends = [{}], [False]
  for string in strings:
    state = 0
    for byte in string:
      if byte not in children[state]:
        children[state][byte] = len(children)
        children.append({})
        ends.append(False)
      state = children[state][byte]
    ends[state] = True
  move = np.zeros((len(children), NO_BYTE + 1), np.int32)
  falls = [0] * len(children)  # to the longest proper end of a prefix that is a prefix itself
  queue = collections.deque([0])
  while queue:  # shorter prefixes first
    state = queue.popleft()
    ends[state] |= ends[falls[state]]
    move[state] = move[falls[state]]
    for byte, child in children[state].items():
      falls[child] = int(move[falls[state], byte]) if state else 0
      move[state, byte] = child
      queue.append(child)
  kept = [state for state in range(len(children)) if not ends[state]]
  number = np.full(len(children), len(kept), np.int32)
  number[kept] = np.arange(len(kept))
  result = np.append(number[move[kept]], np.full((1, NO_BYTE + 1), len(kept), np.int32), axis=0)
  result[:, NO_BYTE] = np.arange(len(result))
  return result


def _padded(texts: list[bytes]) -> np.ndarray:
  """Bytes int32 [V, longest], shorter ones padded with NO_BYTE."""
  rows = itertools.zip_longest(*texts, fillvalue=NO_BYTE)
  return np.array(list(rows), np.int32).reshape(-1, len(texts)).T


def _over_tokens(over_bytes: np.ndarray, texts: np.ndarray) -> np.ndarray:
  """The automaton over tokens, int32 [A, V], of one over bytes."""
  states = np.repeat(np.arange(len(over_bytes), dtype=np.int32)[:, None], len(texts), axis=1)
  for column in texts.T:
    longer = np.flatnonzero(column != NO_BYTE)
    states[:, longer] = over_bytes[states[:, longer], column[longer]]
  return states


def _can_spell(over_tokens: np.ndarray) -> bool:
  """Whether some tokens lead from the start to the end."""
  reached, new = {0}, [0]
  while new:
    found = set(np.unique(over_tokens[new]).tolist())
    new = sorted(found - reached)
    reached |= found
  return len(over_tokens) - 1 in reached
