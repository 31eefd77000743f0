"""Near-duplicates by MinHash: texts whose sets of SHINGLE words in a row are nearly equal.

MinHash (Broder 1997): under a random order of all shingles, two sets have the same first one with
probability J, their Jaccard index. A text has HASHES such firsts, in bands of r; texts that agree
in a whole band are compared by their sets themselves. So none is left out that is not a
near-duplicate, and a pair at the threshold t is compared with probability 1 - (1 - t^r)^bands, r
being the largest that makes this at least RECALL.

Axes: N texts, H hashes.
"""

import collections
import contextlib
import functools
import os
import re
import tempfile
import zlib
from collections.abc import Callable

import numpy as np

SHINGLE = 3
HASHES = 128
RECALL = 0.99
AT_A_TIME = 1024  # texts
COMPARED = 64  # the most kept texts of one band that a text is compared with

_random = np.random.Philox(np.random.SeedSequence([0, HASHES])).random_raw(2 * HASHES)
FACTORS, OFFSETS = _random[:HASHES] | np.uint64(1), _random[HASHES:]


def kept(N: int, text: Callable[[int], str], threshold: float, folder=None) -> np.ndarray:
  """Which of N texts to keep, bool [N]: those at a Jaccard index below the threshold to every
  earlier one that is kept.

  text(i) reads a text, some of them more than once. The keys of all bands are in temporary files of
  `folder`; in memory are those of one band at a time, and which kept texts share a band.
  """
  rows = band_rows(threshold)
  keep, members = np.ones(N, bool), collections.defaultdict(list)
  with contextlib.ExitStack() as stack:
    files = [stack.enter_context(tempfile.TemporaryFile(dir=folder)) for _ in range(HASHES // rows)]
    for start in range(0, N, AT_A_TIME):
      some = [keys(shingles(text(i)), rows) for i in range(start, min(start + AT_A_TIME, N))]
      for file, column in zip(files, np.array(some).T):
        column.tofile(file)
    for file in files:
      groups = _groups(np.frombuffer(os.pread(file.fileno(), 8 * N, 0), np.uint64))
      os.pwrite(file.fileno(), groups, 0)
    sets = functools.lru_cache(4096)(lambda i: shingles(text(i)))
    for start in range(0, N, AT_A_TIME):
      size = 4 * min(AT_A_TIME, N - start)
      columns = [os.pread(file.fileno(), size, 4 * start) for file in files]
      of_each = np.stack([np.frombuffer(column, np.int32) for column in columns], axis=1)
      for i, groups in enumerate(of_each, start):
        mine = [(band, int(groups[band])) for band in np.flatnonzero(groups >= 0).tolist()]
        others = dict.fromkeys(j for group in mine for j in members[group])
        keep[i] = not any(jaccard(sets(i), sets(j)) >= threshold for j in others)
        for group in mine if keep[i] else ():
          if len(members[group]) < COMPARED:
            members[group].append(i)
  return keep


def _groups(signed: np.ndarray) -> np.ndarray:
  """Keys as numbers of groups of equal ones, int32; -1 for one that has no equal."""
  _, group, sizes = np.unique(signed, return_inverse=True, return_counts=True)
  return np.where(sizes[group] > 1, group, -1).astype(np.int32)


def band_rows(threshold: float) -> int:
  """The number r of hashes in a band."""
  found = lambda r: 1 - (1 - threshold**r) ** (HASHES // r)
  return max([r for r in range(1, 33) if found(r) >= RECALL], default=1)


def shingles(text: str) -> np.ndarray:
  """The hashes uint64 of the distinct shingles of a text; one that is shorter is one shingle."""
  words = re.findall(r'\w+', text.casefold())
  hashed = np.array([zlib.crc32(word.encode('utf-8', 'replace')) for word in words], np.uint64)
  n = min(SHINGLE, len(hashed))
  found = np.zeros(max(len(hashed) - n + 1, 1), np.uint64)
  for i in range(n):
    found = _mixed(found + hashed[i : i + len(found)])
  return np.unique(found)


def keys(found: np.ndarray, rows: int) -> np.ndarray:
  """The keys uint64 [bands] of a text's bands: each a hash of `rows` of its MinHashes."""
  firsts = (found[:, None] * FACTORS + OFFSETS >> np.uint64(32)).min(axis=0)
  bands = firsts[: len(firsts) // rows * rows].reshape(-1, rows)
  key = np.zeros(len(bands), np.uint64)
  for column in bands.T:
    key = _mixed(key + column)
  return key


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
  """|a and b| / |a or b| of two sets, each as distinct values."""
  both = len(np.intersect1d(a, b, assume_unique=True))
  return both / (len(a) + len(b) - both)


def _mixed(x: np.ndarray) -> np.ndarray:
  """Hashes of uint64, by the finaliser of SplitMix64."""
  x = x + np.uint64(0x9E3779B97F4A7C15)
  x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
  x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
  return x ^ (x >> np.uint64(31))
