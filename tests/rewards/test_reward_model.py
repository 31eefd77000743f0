"""What a reward model is shown, and how good its scores are, against counting by hand."""

import itertools

import jax
import numpy as np
import pandas as pd
import pytest
from scipy import special

from scaling import compute, sharding
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics
from scaling.rewards import reward_model

VOCAB = VOCABS['arithmetic']
CFG = transformer.ModelConfig(
  vocab_size=VOCAB.size, d_model=16, n_layers=2, n_heads=2, n_kv_heads=2, head_dim=8, d_ff=32,
  head='scalar',
)  # fmt: skip


def table_of(*responses):
  """A bank of (problem, prompt, response, correct)."""
  rows = [
    dict(problem=p, prompt=prompt, sample=i, tokens=[*VOCAB.encode(text), 1], correct=correct)
    for i, (p, prompt, text, correct) in enumerate(responses)
  ]
  return pd.DataFrame(rows)


TABLE = table_of(
  ('a', '1+2=', '#3', True), ('a', '1+2=', '#4', False), ('b', '12+3+4=', '12+3=15;#19', True)
)  # fmt: skip


def test_examples_are_prompt_and_response_with_the_verdict_at_the_last_token():
  found = reward_model.examples(TABLE, VOCAB)
  assert found.sequences[0].tolist() == [*VOCAB.encode('1+2=#3'), 1]
  assert found.starts.tolist() == [4, 4, 7]
  assert [p.tolist() for p in found.places] == [[6], [6], [18]]
  assert [y.tolist() for y in found.labels] == [[1.0], [0.0], [1.0]]
  with pytest.raises(BadInput, match=r"^bank: problem 'a' has a response without tokens"):
    reward_model.examples(TABLE.assign(tokens=[[]] * 3), VOCAB)


def test_steps_end_at_their_marks_and_at_the_end():
  ending = reward_model.step_tokens(VOCAB, (';', '#'))
  assert ending == set(VOCAB.encode(';#'))
  assert reward_model.step_ends(TABLE['tokens'][2], ending) == [7, 8, 11]
  assert reward_model.step_ends(VOCAB.encode('1;2;'), ending) == [1, 3]  # cut off at a mark


def test_labels_of_steps_stand_behind_their_own_prompt():
  labels = pd.DataFrame(
    {'problem': ['b', 'b'], 'sample': [2, 2], 'end': [7, 11], 'value': [0.25, 1.0]}
  )
  found = reward_model.with_steps(reward_model.examples(TABLE, VOCAB), TABLE, labels)
  assert found.places[0].tolist() == [7 + 7, 7 + 11] and found.labels[0].tolist() == [0.25, 1.0]
  assert found.sequences[0][14] == VOCAB.encode(';')[0] and found.problems.tolist() == ['b']
  with pytest.raises(BadInput, match="problem 'b' sample 9 is not in the bank"):
    reward_model.with_steps(found, TABLE, labels.assign(sample=9))
  with pytest.raises(BadInput, match=r'^labels: there are none'):
    reward_model.with_steps(found, TABLE, labels.head(0))


@pytest.mark.parametrize('r, w', [(1, 1), (2, 4), (3, 4), (6, 4), (1, 7)])
def test_pairs_are_all_of_right_times_wrong_and_use_each_equally(r, w):
  problems = np.array(['x'] * (r + w) + ['all right'] * 2, object)
  correct = np.array([True] * r + [False] * w + [True] * 2)
  both, without = reward_model.contrasts(problems, correct)
  assert list(both) == ['x'] and without == 1
  whole = reward_model.pairs(both, seed=0, epoch=0, most=100)
  every = set(itertools.product(range(r), range(r, r + w)))
  assert {tuple(pair) for pair in whole.tolist()} == every and len(whole) == r * w
  some = reward_model.pairs(both, seed=0, epoch=0, most=5)
  assert len(some) == len({tuple(pair) for pair in some.tolist()}) == min(5, r * w)
  for column, size in ((0, r), (1, w)):
    uses = np.bincount(some[:, column] - column * r, minlength=size)
    assert uses.max() - uses.min() <= 1


def test_pairs_are_balanced_over_problems_and_follow_seed_and_epoch():
  problems = np.repeat(np.array(['x', 'y'], object), 12)
  correct = np.array([True] * 6 + [False] * 6 + [True] + [False] * 11)
  both, _ = reward_model.contrasts(problems, correct)
  draw = lambda *args: reward_model.pairs(both, *args, most=8)
  assert np.bincount(draw(0, 0)[:, 0] // 12).tolist() == [8, 8]
  np.testing.assert_array_equal(draw(0, 0), draw(0, 0))
  for other in (draw(0, 1), draw(1, 0)):
    assert not np.array_equal(draw(0, 0), other)


def test_held_out_problems_are_a_part_that_a_longer_pool_keeps():
  names = [f'p{i}' for i in range(100)]
  aside = reward_model.held_out(names, 0.2, seed=0)
  assert len(aside) == 20 and aside < set(names)
  assert aside == reward_model.held_out(names[::-1] * 2, 0.2, seed=0)
  assert aside != reward_model.held_out(names, 0.2, seed=1)
  assert reward_model.held_out(names, 0.1, seed=0) < aside
  assert len(reward_model.held_out(names[:3], 0.01, seed=0)) == 1


def test_batches_walk_one_epoch_after_another():
  calls = []
  epoch = lambda e: calls.append(e) or 10 * e + np.arange(3)
  batch = reward_model.walk(epoch, 2)
  walked = [batch(step).tolist() for step in range(4)]
  assert walked == [[0, 1], [2, 10], [11, 12], [20, 21]]
  assert reward_model.walk(epoch, 2)(3).tolist() == [20, 21]  # wherever it begins
  assert reward_model.walk(epoch, 7)(0).tolist() == [0, 1, 2, 10, 11, 12, 20]


def test_a_pair_stands_in_a_row_with_its_marks():
  sequences = [np.array([5, 6, 7], np.int32), np.array([8, 9], np.int32)]
  batch = reward_model.pair_batch(sequences, np.array([[0, 1], [1, 0]]), 8)
  assert batch['tokens'].tolist() == [[5, 6, 7, 8, 9, 0, 0, 0], [8, 9, 5, 6, 7, 0, 0, 0]]
  assert batch['positions'].tolist() == [[0, 1, 2, 0, 1, 0, 0, 0], [0, 1, 0, 1, 2, 0, 0, 0]]
  assert batch['segment_ids'].tolist() == [[1, 1, 1, 2, 2, 0, 0, 0], [1, 1, 2, 2, 2, 0, 0, 0]]
  assert batch['marks'].tolist() == [[0, 0, 1, 0, -1, 0, 0, 0], [0, 1, 0, 0, -1, 0, 0, 0]]
  assert batch['weights'].tolist() == [[0, 0, 0.5, 0, 0, 0, 0, 0], [0, 0.5, 0, 0, 0, 0, 0, 0]]
  assert reward_model.counts(batch) == compute.causal([3, 2, 2, 3])


def test_labelled_tokens_weigh_alike():
  labels = pd.DataFrame(
    {'problem': ['b', 'b'], 'sample': [2, 2], 'end': [7, 11], 'value': [0.25, 1.0]}
  )
  found = reward_model.examples(TABLE, VOCAB)
  batch = reward_model.point_batch(found, np.array([1, 0]), 24)
  assert batch['weights'][:, 6].tolist() == [0.5, 0.5] and batch['weights'].sum() == 1
  assert batch['labels'][:, 6].tolist() == [0, 1]
  steps = reward_model.with_steps(found, TABLE, labels)
  batch = reward_model.point_batch(steps, np.array([0]), 24)
  assert batch['weights'][0, [14, 18]].tolist() == [0.5, 0.5]
  assert batch['labels'][0, [14, 18]].tolist() == [0.25, 1.0] and batch['labels'].sum() == 1.25


def test_values_do_not_depend_on_rows_widths_or_order():
  params = transformer.init(CFG, jax.random.key(0))
  params['head'] = jax.random.normal(jax.random.key(1), (16,))
  rng = np.random.default_rng(0)
  sequences = [rng.integers(3, VOCAB.size, length) for length in (5, 30, 17, 9, 30, 12)]
  places = [[len(s) - 1] if i % 2 else [1, len(s) - 1] for i, s in enumerate(sequences)]
  mesh = sharding.make_mesh()
  found, ledger = reward_model.values(CFG, params, sequences, places, mesh, rows=4)
  for sequence, at, got in zip(sequences, places, found, strict=True):
    x, _ = transformer.hidden(CFG, params, sequence[None], np.arange(len(sequence))[None])
    np.testing.assert_allclose(got, (x[0] @ params['head'])[np.array(at)], rtol=1e-4, atol=1e-5)
  widths = [(8, 4), (16, 4), (24, 4), (32, 4)]  # 5; 9 and 12; 17; both of 30
  by_hand = compute.add(*(compute.score(CFG, 0, 0, r, w, 'reward_model') for w, r in widths))
  assert ledger['executed'] == by_hand['executed']
  again, _ = reward_model.values(
    CFG, params, sequences[::-1], places[::-1], sharding.make_mesh(data=2, sequence=2),
    Mechanics(microbatches=2), rows=3, width=lambda length: 40,
  )  # fmt: skip
  for a, b in zip(found, again[::-1], strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_the_cost_of_reading_adds_up_over_what_was_read_before():
  whole = reward_model.flops(CFG, 20, 0, 3)
  parts = reward_model.flops(CFG, 8, 0, 0) + reward_model.flops(CFG, 20, 8, 3)
  assert whole == parts == compute.forward_flops(CFG, 20, 20 * 21 / 2, 3)


def scored(seed, ties=True):
  rng = np.random.default_rng(seed)
  labels, problems = rng.random(40) < 0.4, rng.integers(0, 6, 40)
  scores = rng.normal(size=40) + labels
  return (np.round(scores) if ties else scores), labels, problems


@pytest.mark.parametrize('seed', range(4))
def test_auc_against_all_pairs(seed):
  scores, labels, problems = scored(seed, ties=seed % 2 == 0)

  def brute(scores, labels):
    pairs = itertools.product(scores[labels], scores[~labels])
    return np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a, b in pairs])

  assert reward_model.auc(scores, labels) == pytest.approx(brute(scores, labels), abs=1e-12)
  within = [
    brute(scores[problems == p], labels[problems == p])
    for p in dict.fromkeys(problems)
    if 0 < labels[problems == p].mean() < 1
  ]
  np.testing.assert_allclose(reward_model.auc_within(scores, labels, problems), within)
  assert np.isnan(reward_model.auc(scores, labels | True))


def test_the_standard_error_of_an_auc_is_delongs_and_wider_in_clusters():
  rng = np.random.default_rng(0)
  labels = np.arange(400) % 2 == 0
  scores = rng.normal(size=400) + labels
  right, wrong = reward_model.placements(scores, labels)
  assert right.mean() == pytest.approx(wrong.mean())
  delong = np.sqrt(right.var(ddof=1) / 200 + wrong.var(ddof=1) / 200)
  alone = reward_model.auc_stderr(scores, labels, np.arange(400))
  assert alone == pytest.approx(delong, rel=5e-3)
  copied = lambda x: np.repeat(x, 4)  # four copies of each sample say no more than one
  clustered = reward_model.auc_stderr(copied(scores), copied(labels), copied(np.arange(400)))
  assert clustered == pytest.approx(alone, rel=1e-6)
  draws = [
    reward_model.auc(scores[i], labels[i]) for i in (rng.integers(0, 400, 400) for _ in range(300))
  ]
  assert alone == pytest.approx(np.std(draws), rel=0.15)


def test_platt_finds_the_slope_and_offset_that_made_the_labels():
  rng = np.random.default_rng(0)
  value = 50 + 10 * rng.normal(size=40_000)
  chance = special.expit(0.3 * (value - 52))
  for labels in (rng.random(40_000) < chance, chance):  # hard, and soft
    found = reward_model.platt(value, labels)
    assert found.slope == pytest.approx(0.3, rel=0.05)
    assert -found.offset / found.slope == pytest.approx(52, abs=0.3)
  assert found(52.0) == pytest.approx(0.5, abs=0.02)


def test_platt_stays_finite_where_values_separate_and_never_turns_ranks_around():
  found = reward_model.platt([1.0, 2, 3, 4], [0.0, 0, 1, 1])
  # with targets 1/4 and 3/4 the best is a compromise that is symmetric about the middle
  assert 0 < found.slope < 5 and -found.offset / found.slope == pytest.approx(2.5, abs=1e-3)
  upside_down = reward_model.platt([1.0, 2, 3, 4], [1.0, 1, 0, 0])
  assert (np.diff(upside_down([1.0, 2, 3, 4])) > 0).all() and upside_down.slope < 2e-3
  for labels, word in (([0.0] * 4, 'wrong'), ([1.0] * 4, 'right')):
    with pytest.raises(BadInput, match=f'^the held-out samples of the bank are all {word}'):
      reward_model.platt([1.0, 2, 3, 4], labels)


def test_reliability_and_calibration_error_by_hand():
  p, y = [0.05, 0.02, 0.55, 0.58, 1.0], [0, 1, 1, 1, 0]
  table = reward_model.reliability(p, y)
  assert table['count'].tolist() == [2, 0, 0, 0, 0, 2, 0, 0, 0, 1]
  assert table['predicted'][0] == pytest.approx(0.035) and table['right'][0] == 0.5
  assert np.isnan(table['right'][3])
  expected = (2 * abs(0.035 - 0.5) + 2 * abs(0.565 - 1) + 1 * abs(1.0 - 0)) / 5
  assert reward_model.calibration_error(p, y) == pytest.approx(expected)
  quality = reward_model.quality(p, y, ['a', 'a', 'b', 'b', 'b'])
  assert quality['verdict_accuracy'][0] == pytest.approx((1 / 2 + 2 / 3) / 2)
  assert quality['auc'][0] == pytest.approx(2 / 6)
  assert quality['auc_within'][0] == pytest.approx((0 + 0) / 2)
