"""A judge's words, and what is chosen by them."""

import itertools

import numpy as np
import pytest

from scaling.rewards import judge


@pytest.mark.parametrize(
  'text, score',
  [
    ('Fine.\nScore: 7', 0.7),
    ('score: 3 at first sight\nScore: 10', 1.0),
    ('**Score:** 8', 0.8),
    ('The score is **6.5**.', 0.65),
    ('{"reason": "ok", "score": 4}', 0.4),
    ('Score: 9/10', 0.9),
    ('I give it 2 out of 10', 0.2),
    ('8', 0.8),
    ('Score: 0', 0.0),
    ('Score: 11', None),
    ('Score: -3', None),
    ('It has 3 steps and 12 numbers.', None),
    ('Score: high', None),
    ('Score:\n\n7 apples', None),
    ('', None),
  ],
)
def test_read_score(text, score):
  assert judge.read_score(text) == score


@pytest.mark.parametrize(
  'text, verdict',
  [
    ('Better: A', 1.0),
    ('Better: A? No.\n**Better:** B', 0.0),
    ('the winner is response B.', 0.0),
    ('Verdict: tie', 0.5),
    ('because of this\n[[A]]', 1.0),
    ('Better: both', None),
    ('A is a letter', None),
    ('', None),
  ],
)
def test_read_pair(text, verdict):
  assert judge.read_pair(text) == verdict


def test_the_prompts_hold_the_texts_as_they_are():
  odd = 'a {response} {prompt} \\1'
  asked = judge.score_prompt(odd, 'r {prompt}')
  assert odd in asked and 'r {prompt}' in asked
  asked = judge.pair_prompt('p', 'X {second}', 'Y')
  assert asked.index('\nX {second}\n</response A>') < asked.index('\nY\n</response B>')


def test_a_response_that_the_judge_failed_on_ranks_below_all_others():
  ranked = judge.ranks(np.array([0.9, np.nan, 0.0, np.nan]))
  assert ranked[1] == ranked[3] < ranked[2] < ranked[0]


def test_best_of_pairs_is_the_mean_over_subsets():
  rng = np.random.default_rng(0)
  n = 6
  wins = rng.choice([0.0, 0.5, 1.0], (n, n))
  wins = np.triu(wins, 1) + np.tril(1 - wins.T, -1)
  gold = rng.random(n) < 0.5
  for k in (1, 2, 4, 6):
    total = []
    for chosen in itertools.combinations(range(n), k):
      points = [sum(wins[i, j] for j in chosen if j != i) for i in chosen]
      best = [i for i, p in zip(chosen, points) if p == max(points)]
      total.append(np.mean([gold[i] for i in best]))
    assert judge.best_of_pairs(wins, gold, k) == pytest.approx(np.mean(total))
  assert judge.best_of_pairs(wins, gold, 1) == pytest.approx(gold.mean())


def test_best_of_pairs_draws_subsets_where_they_are_many():
  gold = np.arange(20) == 19
  wins = (np.arange(20)[:, None] > np.arange(20)[None, :]) * 1.0  # the right one beats all
  assert judge.best_of_pairs(wins, gold, 8) == pytest.approx(8 / 20, abs=0.04)
