"""The rollout bank and the records that are computed from it."""

import itertools

import numpy as np
import pandas as pd
import pytest

from scaling import bank, compute, records, study
from scaling.data import batches
from scaling.stages import stage as stages
from tests import tiny


@pytest.fixture(scope='module')
def banked(tiny_workdir):
  stage = [s for s in study.expand(tiny.get_config()) if s.kind == 'sample'][-1]
  folder = stages.folder(tiny_workdir, stage.id)
  return stage, bank.read(folder / 'bank'), pd.read_parquet(folder / 'records.parquet')


def test_the_bank_has_every_sample_once_with_its_text_and_log_probs(banked, tiny_workdir):
  stage, table, _ = banked
  assert len(table) == 4 * 8 and not table.duplicated(['problem', 'sample']).any()
  assert set(table['sample']) == set(range(8))
  _, data = stages.load_data(tiny_workdir, stage.recipe)
  for row in table.itertuples():
    assert len(row.tokens) == len(row.logprobs) == len(row.sampler_logprobs) == row.length
    assert data.vocab.decode(row.tokens) == row.response
    assert (row.tokens[-1] == 1) == row.stopped
    assert (row.logprobs <= 0).all()
  cost = stages.done(tiny_workdir, stage.id)['ledger']['model']
  assert table['prefill_flops'].sum() == pytest.approx(cost['prefill'])
  assert table['decode_flops'].sum() == pytest.approx(cost['decode'])


def test_prompts_of_the_bank_are_in_no_training_pool(banked, tiny_workdir):
  stage, table, _ = banked
  folder, _ = stages.load_data(tiny_workdir, stage.recipe)
  for pool in ('sft', 'rl', 'validation'):
    assert not {p.prompt for p in batches.problems(folder, pool)} & set(table['prompt'])


def test_a_lost_shard_is_drawn_again_to_the_same_bits(banked, tiny_workdir):
  stage, table, _ = banked
  folder = stages.folder(tiny_workdir, stage.id)
  bank.shard_path(folder / 'bank', 2, 4).unlink()
  (folder / 'done.json').unlink()
  study.run(tiny.get_config(), tiny_workdir)
  pd.testing.assert_frame_equal(bank.read(folder / 'bank'), table, check_exact=True)


def test_records_against_brute_force_over_subsets(banked):
  """pass@2 and majority@2 by listing all pairs of the 8 samples of each problem."""
  _, table, rows = banked
  assert list(rows.columns) == list(records.COLUMNS)
  oracle, majority = [], []
  for _, group in table.groupby('problem'):
    pairs = list(itertools.combinations(group.itertuples(), 2))
    oracle.append(np.mean([a.correct or b.correct for a, b in pairs]))
    wins = []
    for pair in pairs:
      votes = [s for s in pair if s.answer is not None and s.answer == s.answer]
      wins.append(np.mean([s.correct for s in votes]) if votes else 0.0)
    majority.append(np.mean(wins))
  pick = lambda strategy, k: rows[(rows.strategy == strategy) & (rows.k == k)].iloc[0]
  assert pick('oracle', 2).value == pytest.approx(np.mean(oracle))
  assert pick('majority', 2).value == pytest.approx(np.mean(majority))
  assert pick('oracle', 2).stderr == pytest.approx(np.std(oracle, ddof=1) / 2)
  assert pick('oracle', 1).value == pytest.approx(table['correct'].mean())
  assert pick('majority', 1).value == pytest.approx(pick('oracle', 1).value)


def test_the_cost_of_a_query_grows_with_k_in_decoding_alone(banked):
  stage, table, rows = banked
  by_k = rows[rows.strategy == 'oracle'].set_index('k')
  assert by_k.loc[2, 'query_decode_flops'] == pytest.approx(2 * by_k.loc[1, 'query_decode_flops'])
  assert by_k['query_prefill_flops'].nunique() == 1
  expected = compute.query(
    stages.model(stage.recipe), table['prompt_tokens'].mean(), table['length'].mean(), 2
  )
  assert by_k.loc[2, 'query_decode_flops'] == pytest.approx(expected[1])
