import hashlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import batches
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput

ROWS = st.integers(1, 40)
SEED = st.integers(0, 2**31)


def pool(rows, width=3):
  """Rows that carry their own number in every column."""
  number = np.repeat(np.arange(rows, dtype=np.uint16)[:, None], width, 1)
  return batches.Packed(number, number, number, number % 2 == 0)


def batch(rows_of, seed, step, rows):
  return batches.read(rows_of, batches.picked(len(rows_of.tokens), seed, step, rows))


@given(SEED, ROWS, ROWS, st.integers(1, 3))
def test_each_row_exactly_once_an_epoch(seed, total, rows, epochs):
  steps = -(-total * epochs // rows)
  walked = [batch(pool(total), seed, step, rows)['tokens'][:, 0] for step in range(steps)]
  walked = np.concatenate(walked)[: total * epochs].reshape(epochs, total)
  assert (np.sort(walked, axis=1) == np.arange(total)).all()


@given(SEED, ROWS, ROWS, st.integers(0, 10**6))
def test_a_step_is_found_without_the_steps_before_it(seed, total, rows, step):
  """Against the walk written out: one permutation after another, cut into batches."""
  first = step * rows // total
  epochs = range(first, (step * rows + rows) // total + 1)
  walk = np.concatenate([batches.rl_prompts(seed, epoch, total, total) for epoch in epochs])
  expected = walk[step * rows - first * total :][:rows]
  numbered = pool(total)
  got = batch(numbered, seed, step, rows)
  np.testing.assert_array_equal(got['tokens'], numbered.tokens[expected])


@given(SEED, st.integers(0, 40), st.integers(1, 40), st.integers(0, 1000))
def test_no_prompt_comes_twice_in_an_update_and_an_epoch_repeats_none(seed, extra, count, update):
  total = count + extra
  assert len(set(batches.rl_prompts(seed, update, count, total))) == count
  epoch = [batches.rl_prompts(seed, i, count, total) for i in range(total // count)]
  assert len(set(np.concatenate(epoch))) == total // count * count


@given(st.integers(1, 500), st.data())
def test_a_subset_of_rows_is_the_head_of_every_larger_one(total, data):
  few = data.draw(st.integers(1, total))
  most = data.draw(st.integers(few, total))
  subset = batches.subset(total, most)
  assert len(set(subset)) == most and set(subset) <= set(range(total))
  np.testing.assert_array_equal(batches.subset(total, few), subset[:few])


def test_a_subset_does_not_follow_the_order_of_rows():
  picked = batches.subset(10_000, 1_000)
  assert abs(picked.mean() - 5_000) < 4 * 10_000 / np.sqrt(12 * 1_000)


def test_epochs_and_seeds_differ_and_repeat():
  walk = lambda seed, epoch: batches.rl_prompts(seed, epoch, 50, 50).tolist()
  assert walk(0, 0) == walk(0, 0)
  assert len({tuple(walk(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
  assert walk(0, 0) != list(range(50))


def test_the_walk_does_not_change_between_versions():
  assert batches.rl_prompts(0, 0, 8, 8).tolist() == [0, 3, 7, 5, 1, 2, 6, 4]


def test_what_a_batch_is_made_of():
  made = batch(pool(7, width=5), 0, 0, 4)
  assert set(made) == {'tokens', 'positions', 'segment_ids', 'loss_mask'}
  assert all(x.shape == (4, 5) for x in made.values())
  assert [made[name].dtype for name in ('tokens', 'positions', 'segment_ids')] == [np.int32] * 3
  assert made['loss_mask'].dtype == bool
  assert (made['loss_mask'] == (made['tokens'] % 2 == 0)).all()


def problem(prompt):
  return batches.Problem('p-1', 'chain_sum', prompt, '#2', '2', {})


def test_encode_prompts():
  vocab = VOCABS['arithmetic']
  tokens, lengths, hashes = batches.encode_prompts([problem('1+1='), problem('12-3=')], vocab, 7)
  assert tokens.dtype == lengths.dtype == np.int32 and hashes.dtype == np.uint32
  assert tokens.tolist() == [vocab.encode('1+1=') + [0] * 3, vocab.encode('12-3=') + [0] * 2]
  assert lengths.tolist() == [4, 5]
  assert hashes[0].tobytes() == hashlib.sha256(b'1+1=').digest()[:8]
  alone = batches.encode_prompts([problem('12-3=')], vocab, 5)[2]
  assert (alone[0] == hashes[1]).all()  # of the content alone


def test_a_prompt_longer_than_the_context():
  with pytest.raises(BadInput, match=r'problem p-1: its prompt has 9 tokens .* room for 8'):
    batches.encode_prompts([problem('12+34+56=')], VOCABS['arithmetic'], 8)


def test_reading_what_is_not_there(tmp_path):
  with pytest.raises(BadInput, match=r'data\.json'):
    batches.load(tmp_path)
  with pytest.raises(BadInput, match='pretrain'):
    batches.packed(tmp_path, 'pretrain')
  with pytest.raises(BadInput, match='sft, rl, validation, test'):
    batches.problems(tmp_path, 'train')
  with pytest.raises(BadInput, match='draws 3 prompts and there are 2'):
    batches.rl_prompts(0, 0, 3, 2)
