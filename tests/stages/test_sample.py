"""The rollout bank and the records that are computed from it."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest

from scaling import bank, compute, records, sharding, study
from scaling.data import batches
from scaling.launch import local
from scaling.model.transformer import Mechanics
from scaling.stages import sample as sampling
from scaling.stages import stage as stages
from tests import tiny
from tests.stages.by_hand import begin, setting_of


@pytest.fixture(scope='module')
def banked(tiny_workdir):
  stage = [s for s in study.expand(tiny.get_config()) if s.kind == 'sample'][-1]
  folder = stages.folder(tiny_workdir, stage.id)
  return stage, bank.of_stage(tiny_workdir, stage.id), pd.read_parquet(folder / 'records.parquet')


@pytest.fixture
def copied(banked, tiny_workdir, tmp_path):
  """A copy of the workdir in which the last bank's stage has not ended, and that bank's folder."""
  shutil.copytree(tiny_workdir, tmp_path / 'w')
  (stages.folder(tmp_path / 'w', banked[0].id) / 'done.json').unlink()
  return tmp_path / 'w', bank.folder(tmp_path / 'w', banked[0].id)


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
  prompts = table.drop_duplicates('problem')['prefill_flops']
  assert 2 * prompts.sum() == pytest.approx(cost['prefill'])  # once for each block of 4 samples
  assert table['decode_flops'].sum() == pytest.approx(cost['decode'])


def test_a_later_round_draws_other_samples_of_the_same_model(banked, tiny_workdir, tmp_path):
  stage, table, _ = banked
  workdir = shutil.copytree(tiny_workdir, tmp_path / 'w')
  again = stages.make('sample', stage.parent, '', stage.recipe | {'measure': False, 'round': 1})
  sampling.run(setting_of(workdir), begin(workdir, again))
  found = bank.of_stage(workdir, again.id)
  assert (found[['problem', 'sample']] == table[['problem', 'sample']]).all(axis=None)
  assert (found['response'] != table['response']).mean() > 0.5


def test_prompts_of_the_bank_are_in_no_training_pool(banked, tiny_workdir):
  stage, table, _ = banked
  folder, _ = stages.load_data(tiny_workdir, stage.recipe)
  for pool in ('sft', 'rl', 'validation'):
    assert not {p.prompt for p in batches.problems(folder, pool)} & set(table['prompt'])


def test_a_lost_shard_is_drawn_again_to_the_same_bits(banked, copied, tiny_workdir):
  stage, table, _ = banked
  workdir, folder = copied
  (folder / 'shard-p00002-s00004.parquet').unlink()
  kept = {p: p.read_bytes() for p in folder.glob('*.parquet')}
  study.run(tiny.get_config(), workdir)
  pd.testing.assert_frame_equal(bank.of_stage(workdir, stage.id), table, check_exact=True)
  assert {p: p.read_bytes() for p in kept} == kept
  ledger = lambda w: stages.done(w, stage.id)['ledger']
  assert ledger(workdir) == ledger(tiny_workdir)


def test_a_shard_cut_off_is_recovered_and_what_is_lost_drawn_again(banked, copied, capsys):
  stage, table, _ = banked
  workdir, folder = copied
  path = folder / 'shard-p00000-s00004.parquet'
  second = bank.pq.read_metadata(path).row_group(1).column(0).dictionary_page_offset
  path.write_bytes(path.read_bytes()[: second + 10])
  study.run(tiny.get_config(), workdir)
  assert '1 of its 2 problems are recovered' in capsys.readouterr().out
  pd.testing.assert_frame_equal(bank.of_stage(workdir, stage.id), table, check_exact=True)
  assert (folder / 'shard-p00001-s00004.parquet').exists()  # the lost problem alone


def test_a_bank_grows_from_n_to_4n_without_drawing_again(banked, copied, monkeypatch):
  """Old rows keep their bits, and of the new ones only what is missing is drawn."""
  stage, table, _ = banked
  workdir, folder = copied
  kept = {p: p.read_bytes() for p in folder.glob('*.parquet')}
  drawn = []
  monkeypatch.setattr(
    bank, 'write', lambda *args, old=bank.write: (drawn.append(args[1]), old(*args))
  )
  setting = stages.Setting(
    workdir, sharding.make_mesh(), Mechanics(), 60.0, _environment(), lambda part, words: None
  )
  more = stages.make('sample', stage.parent, 'more', stage.recipe | {'n': 32, 'measure': False})
  local._run(setting, more)
  assert {p: p.read_bytes() for p in kept} == kept
  rows = bank.of_stage(workdir, more.id)
  assert len(rows) == 4 * 32 and bank.folder(workdir, more.id) == folder
  assert sum(map(len, drawn)) == 4 * 24 and min(t['sample'].min() for t in drawn) == 8
  old = rows[rows['sample'] < 8].assign(stage=stage.id).reset_index(drop=True)
  pd.testing.assert_frame_equal(old, table, check_exact=True)
  assert not (stages.folder(workdir, more.id) / 'records.parquet').exists()
  cost = stages.done(workdir, more.id)['ledger']['model']
  assert cost['decode'] == pytest.approx(rows[rows['sample'] >= 8]['decode_flops'].sum())
  # Drawn at once, it has the same bits.
  shutil.rmtree(folder)
  (stages.folder(workdir, more.id) / 'done.json').unlink()
  local._run(setting, more)
  pd.testing.assert_frame_equal(bank.of_stage(workdir, more.id), rows, check_exact=True)


def test_a_stop_string_ends_a_response_and_is_cut_from_its_text(banked, copied):
  stage, plain, _ = banked
  workdir, _ = copied
  mark = pd.Series(list(''.join(plain['response']))).mode()[0]  # what the model says most
  recipe = stage.recipe | {'stop': [mark], 'n': 4, 'measure': False, 'response_tokens': 12}
  stopping = stages.make('sample', stage.parent, 'stops', recipe)
  setting = stages.Setting(
    workdir, sharding.make_mesh(), Mechanics(), 60.0, _environment(), lambda part, words: None
  )
  local._run(setting, stopping)
  table = bank.of_stage(workdir, stopping.id)
  _, data = stages.load_data(workdir, recipe)
  assert bank.folder(workdir, stopping.id) != bank.folder(workdir, stage.id)
  cut = 0
  for row in table.itertuples():
    text = data.vocab.decode(row.tokens)
    assert mark not in row.response and mark not in text[:-1]
    assert row.response == text.removesuffix(mark) and row.stopped >= text.endswith(mark)
    cut += text.endswith(mark)
  assert cut


def _environment():
  return {'git_commit': '', 'versions': {}, 'device': 'cpu'}


@pytest.mark.parametrize(
  'there, blocks',
  [
    ([], [([0, 1], 0), ([0, 1], 4), ([2, 3], 0), ([2, 3], 4), ([4], 0), ([4], 4)]),
    ([[p, s] for p in range(5) for s in (0, 4)], []),
    ([[0, 0], [2, 0], [4, 0], *([p, 4] for p in range(5))], [([1, 3], 0)]),
  ],
)
def test_the_blocks_to_draw_are_those_missing(there, blocks):
  assert sampling.blocks_of(there, 5, 8, 2, 4) == blocks


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
  cfg = stages.model(stage.recipe)
  each = [compute.query(cfg, r.prompt_tokens, r.length, 2) for r in table.itertuples()]
  assert by_k.loc[2, 'query_decode_flops'] == pytest.approx(np.mean([decode for _, decode in each]))
