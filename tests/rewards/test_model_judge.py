"""A local model as a judge: what it is asked, how what it says is read, what it costs."""

import math

import numpy as np
import pytest

from scaling import compute
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.model import presets
from scaling.rewards import judge, model_judge
from scaling.search import outcome
from scaling.search.generate import Drawn, Generator

SHORT, BYTES = VOCABS['arithmetic'], VOCABS['bytes']


def tools(vocab, style, weights=None, says=(), executed=0.0):
  """(Tools of a scripted model, what it was asked). weights: (question, text) -> log-prob."""
  asked, script = [], iter(says)

  def draw(prefixes, **more):
    asked.extend(vocab.decode(prefix) for prefix in prefixes)
    ids = [vocab.encode(next(script)) + [vocab.stop] for _ in prefixes]
    return [[Drawn(one, [0.0] * len(one), True)] for one in ids]

  def weigh(prefixes, texts):
    asked.extend(vocab.decode(prefix) for prefix in prefixes)
    return [weights(vocab.decode(p), vocab.decode(t)) for p, t in zip(prefixes, texts, strict=True)]

  def spent():
    ledger = compute.empty()
    ledger['executed']['prefill'] = executed
    return ledger

  cfg = presets.model_config('25k', vocab.size)
  generator = Generator(draw, weigh, spent, lambda: 0)
  return outcome.Tools(cfg, vocab, style, generator, 16, 2000), asked


def test_a_verdict_is_the_probability_of_its_token_among_the_two():
  table = {'1+2=#3:': (0.6, 0.2), '1+2=#4:': (0.1, 0.3)}
  weights = lambda q, t: math.log(table[q]['cx'.index(t)])
  given, asked = tools(SHORT, 'short', weights, executed=7.0)
  values, ledger = model_judge.verdicts(given, ['1+2='] * 3, ['#3', '#4', '#3'])
  np.testing.assert_allclose(values, [0.75, 0.25, 0.75])
  assert asked == ['1+2=#3:'] * 2 + ['1+2=#4:'] * 2  # an equal response is read once
  by_hand = 2 * compute.forward_flops(given.cfg, 7, 7 * 8 / 2, 1)
  assert ledger['model'] == compute.empty()['model'] | {'reward_model': by_hand}
  assert ledger['executed'] == compute.empty()['executed'] | {'reward_model': 7.0}


def test_a_verdict_far_from_even_does_not_overflow():
  weights = lambda q, t: -1e4 if t == 'c' else 0.0
  assert model_judge.verdicts(tools(SHORT, 'short', weights)[0], ['1='], ['#1'])[0] < 1e-300


def test_scores_in_words_and_those_that_cannot_be_read():
  given, asked = tools(BYTES, 'full', says=['Score: 7', 'no idea', 'Fine.\nScore: 10'])
  values, ledger = model_judge.words(given, ['1+2=\n'] * 3, ['#3', '#4', '{prompt}'])
  np.testing.assert_array_equal(values, [0.7, math.nan, 1.0])
  assert asked == [judge.score_prompt('1+2=\n', text) for text in ('#3', '#4', '{prompt}')]
  costs = [compute.query(given.cfg, len(a.encode()), len(s) + 1, 1)
           for a, s in zip(asked, ['Score: 7', 'no idea', 'Fine.\nScore: 10'])]  # fmt: skip
  assert ledger['model']['reward_model'] == pytest.approx(np.sum(costs))


@pytest.mark.parametrize('liking, expected', [('good', [0.9, 0.1]), ('first', [0.5, 0.5])])
def test_a_pair_is_asked_in_both_orders(liking, expected):
  """A judge that likes the good response nine times of ten, and one that likes what comes first."""

  def weights(question, text):
    if liking == 'first':
      return math.log(0.8 if text == ' A' else 0.2)
    first_is_good = question.index('good') < question.index('bad')
    return math.log(0.9 if first_is_good == (text == ' A') else 0.1)

  given, asked = tools(BYTES, 'full', weights)
  values, _ = model_judge.preferred(given, ['p'] * 2, ['good', 'bad'], ['bad', 'good'])
  np.testing.assert_allclose(values, expected)
  assert all(text.endswith('Better: A\nBetter:') for text in asked)


def test_responses_are_graded_by_whom_they_beat():
  """A judge that likes the longer one with certainty .8; equal responses are one."""

  def weights(question, text):
    parts = question.rsplit('<response A>\n', 1)[1].split('\n</response A>')
    first, second = parts[0], question.rsplit('<response B>\n', 1)[1].split('\n</response B>')[0]
    return math.log(0.8 if (len(first) > len(second)) == (text == ' A') else 0.2)

  given, asked = tools(BYTES, 'full', weights)
  prompts = ['p', 'p', 'q', 'p', 'p']
  values, ledger = model_judge.grades(given, 'pairs', prompts, ['xx', 'x', 'alone', 'xxx', 'x'])
  np.testing.assert_allclose(values, [0.5, 0.2, 0.5, 0.8, 0.2])
  assert len(asked) == 2 * 3 * 2  # both verdicts of three pairs in either order
  assert ledger['model']['reward_model'] > 0
  values, ledger = model_judge.pairs(given, ['p'], ['x'])
  assert values.tolist() == [0.5] and compute.total(ledger) == 0


def test_a_vocabulary_that_cannot_write_the_question_is_refused():
  given, _ = tools(SHORT, 'short')
  with pytest.raises(BadInput, match=r"^a judge in words: its question has 'Y', and .*arithmetic"):
    model_judge.grades(given, 'words', ['1+2='], ['#3'])
