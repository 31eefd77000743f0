"""Near-duplicates by MinHash: texts whose sets of SHINGLE words in a row are nearly equal.

MinHash (Broder 1997): under a random order of all shingles, two sets have the same first one with
probability J, their Jaccard index. A text has HASHES such firsts, in bands of r; texts that agree
in a whole band are compared by their sets themselves. So none is left out that is not a
near-duplicate, and a pair at the threshold t is compared with probability 1 - (1 - t^r)^bands, r
being the largest that makes this at least RECALL.

Axes: N texts, H hashes.
"""

import collections
import functools
import re
import tempfile
import zlib
from collections.abc import Callable

import numpy as np

SHINGLE = 3
HASHES = 128
RECALL = 0.99
COMPARED = 64  # the most kept texts of one band that a text is compared with

_random = np.random.Philox(np.random.SeedSequence([0, HASHES])).random_raw(2 * HASHES)
FACTORS, OFFSETS = _random[:HASHES] | np.uint64(1), _random[HASHES:]


def kept(N: int, text: Callable[[int], str], threshold: float, folder=None) -> np.ndarray:
  """Which of N texts to keep, bool [N]: those at a Jaccard index below the threshold to every
  earlier one that is kept.

  text(i) reads a text, some of them more than once. In memory are a few bytes of each; the keys of
  its bands are in a temporary file of `folder`.
  """
  rows = band_rows(threshold)
  bands = HASHES // rows
  with tempfile.TemporaryFile(dir=folder) as file:
    for i in range(N):
      keys(shingles(text(i)), rows).tofile(file)
    file.flush()
    if N == 0:
      return np.ones(0, bool)
    signed = np.memmap(file, np.uint64, 'r', shape=(N, bands))
    groups = collections.defaultdict(list)  # text -> those of its bands that others share
    for band in range(bands):
      _, group, sizes = np.unique(signed[:, band], return_inverse=True, return_counts=True)
      for i in np.flatnonzero(sizes[group] > 1).tolist():
        groups[i].append((band, int(group[i])))
  sets = functools.lru_cache(4096)(lambda i: shingles(text(i)))
  keep, members = np.ones(N, bool), collections.defaultdict(list)
  for i in sorted(groups):
    others = dict.fromkeys(j for group in groups[i] for j in members[group])
    keep[i] = not any(jaccard(sets(i), sets(j)) >= threshold for j in others)
    for group in groups[i] if keep[i] else ():
      if len(members[group]) < COMPARED:
        members[group].append(i)
  return keep


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
