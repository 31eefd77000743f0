import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.data import near_duplicates

WORDS = [f'w{i}' for i in range(40)]
TEXTS = st.lists(st.lists(st.sampled_from(WORDS[:6]), max_size=9).map(' '.join), max_size=12)


def jaccard(a, b):
  """Of the sets of runs of three words, with nothing hashed."""

  def runs(text):
    words = re.findall(r'\w+', text.lower())
    n = min(3, len(words))
    return {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}

  a, b = runs(a), runs(b)
  return len(a & b) / len(a | b)


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=30), st.data())
def test_the_index_of_two_texts(words, data):
  at, other = data.draw(st.integers(0, len(words) - 1)), data.draw(st.sampled_from(WORDS))
  a, b = ' '.join(words), ', '.join([*words[:at], other, *words[at + 1 :]]).upper()
  got = near_duplicates.jaccard(near_duplicates.shingles(a), near_duplicates.shingles(b))
  assert got == pytest.approx(jaccard(a, b))


@settings(deadline=None)
@given(TEXTS, st.sampled_from([0.3, 0.6, 1.0]))
def test_nothing_but_a_near_duplicate_is_left_out(texts, threshold):
  keep = near_duplicates.kept(len(texts), texts.__getitem__, threshold)
  for i in np.flatnonzero(~keep):
    assert any(keep[j] and jaccard(texts[i], texts[j]) >= threshold for j in range(i))
  for i, j in itertools.combinations(np.flatnonzero(keep), 2):  # equal texts are always found
    assert texts[i].split() != texts[j].split()


@pytest.mark.parametrize('threshold', [0.5, 0.7, 0.8, 0.9, 0.95])
def test_bands_find_a_pair_at_the_threshold_with_probability(threshold):
  r = near_duplicates.band_rows(threshold)
  found = lambda r: 1 - (1 - threshold**r) ** math.floor(128 / r)
  assert found(r) >= 0.99 and (r == 32 or found(r + 1) < 0.99)


def test_the_keys_of_a_band_agree_as_often_as_the_index_says():
  """P(two texts agree in a band of r) = J^r, over many pairs of one J."""
  rng, hits, r = np.random.default_rng(0), 0, 4
  for _ in range(40):
    both = rng.integers(0, 2**63, 90, np.uint64)
    a, b = np.unique(both[:75]), np.unique(both[15:])  # 60 of 90 shared
    hits += (near_duplicates.keys(a, r) == near_duplicates.keys(b, r)).sum()
  p, n = (60 / 90) ** r, 40 * (128 // r)
  assert abs(hits / n - p) < 5 * math.sqrt(p * (1 - p) / n)


def test_near_duplicates_among_many_texts(tmp_path):
  rng = np.random.default_rng(1)
  texts = [' '.join(f'v{i}' for i in rng.integers(0, 500, 40)) for _ in range(300)]
  copies = [text.replace(text.split()[5], 'another', 1) for text in texts[:60]]  # J = 35 / 41
  every = texts + copies
  keep = near_duplicates.kept(len(every), every.__getitem__, 0.8, tmp_path)
  assert keep[:300].all() and (~keep[300:]).mean() >= 0.95
  assert near_duplicates.kept(len(every), every.__getitem__, 0.95).all()
  assert near_duplicates.kept(0, every.__getitem__, 0.8).shape == (0,)
