"""Reading a workdir: whole, interrupted, and what is no workdir."""

import json
import shutil

import pandas as pd
import pytest
import synthetic

import analysis
from analysis import tables
from analysis.errors import BadInput

SMALL = synthetic.Truth(problems=6, samples=8, sizes=('25k', '75k'), budgets=(1e5, 4e5))


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return synthetic.write(tmp_path_factory.mktemp('study') / 'w', SMALL)


def test_counts_hold_every_sample_once_with_its_cell(workdir):
  counts = analysis.counts(workdir)
  bank = tables.load_bank(workdir)
  records = tables.load(workdir)
  assert counts['n'].sum() == len(bank) and counts['c'].sum() == bank['correct'].sum()
  assert not counts.duplicated([*tables.CELL, 'problem']).any()
  accuracy = records[(records['metric'] == 'accuracy') & (records['k'] == 1)]
  accuracy = accuracy[accuracy['strategy'] == 'oracle'].set_index('bank')
  for stage, rows in counts.groupby('bank'):
    assert (rows['c'] / rows['n']).mean() == pytest.approx(accuracy.loc[stage, 'value'])
    assert (rows['rl_updates'] == accuracy.loc[stage, 'rl_updates']).all()
    assert (rows['sft_tokens'] == accuracy.loc[stage, 'sft_tokens']).all()


def test_votes_count_abstentions_apart(workdir):
  votes, bank = tables.load_votes(workdir), tables.load_bank(workdir)
  assert votes['count'].sum() == len(bank)
  assert votes.loc[votes['answer'].isna(), 'count'].sum() == bank['answer'].isna().sum() > 0


def test_read_bundles_curves_and_ledger(workdir):
  study = tables.read(workdir)
  assert study.name == 'synthetic' and set(study.records['study']) == {'synthetic'}
  assert {'sft'} <= set(study.curves['kind'])
  total = study.ledger['model'].sum()
  assert total == pytest.approx(study.plan['shared']['flops_planned'])


def test_interrupted_study_loads_what_is_there(workdir, tmp_path):
  partial = tmp_path / 'w'
  shutil.copytree(workdir, partial)
  plan = tables.read(partial).plan
  drawn = [s['id'] for s in plan['stages'] if s['kind'] == 'sample']
  shutil.rmtree(partial / 'stages' / drawn[-1])
  (partial / 'stages' / drawn[0] / 'done.json').unlink()
  study = tables.read(partial)
  assert set(study.counts['bank']) == set(drawn[:-1])
  assert drawn[0] not in study.outcomes


def test_two_studies_share_a_stage(workdir, tmp_path):
  both = tmp_path / 'w'
  shutil.copytree(workdir, both)
  plan = json.loads((both / 'studies/synthetic.json').read_text())
  second = plan | {'name': 'second', 'stages': plan['stages'][:4]}
  (both / 'studies/second.json').write_text(json.dumps(second))
  one, two = tables.load(both, 'synthetic'), tables.load(both, 'second')
  assert len(tables.load(both)) == len(one) + len(two)
  assert len(tables.load_bank(both)) == len(tables.load_bank(workdir))
  assert len(tables.counts(both)) == len(tables.counts(workdir))
  assert tables.read(both).name == 'second'


def test_bank_reads_only_the_columns_asked_for(workdir):
  assert list(tables.load_bank(workdir, ['problem', 'correct'])) == ['problem', 'correct']


def _no_studies(folder):
  shutil.rmtree(folder / 'studies')


def _other_format(folder):
  (folder / 'version.json').write_text('{"format": 7}')


def _broken_plan(folder):
  (folder / 'studies/synthetic.json').write_text('{"name":\n "x", oops}')


def _broken_records(folder):
  next(folder.glob('stages/sample-*/records.parquet')).write_bytes(b'no parquet')


def _nothing_finite(folder):
  _no_records(folder)
  first = sorted(folder.glob('stages/pretrain-*/done.json'))[0]
  first.write_text('{"outcome": "non-finite"}')


def _no_records(folder):
  for path in folder.glob('stages/*/records.parquet'):
    path.unlink()


@pytest.mark.parametrize(
  'damage, says',
  [
    (_no_studies, 'experiments/quickstart.py'),
    (_other_format, 'format 7'),
    (_broken_plan, 'synthetic.json:2: not JSON'),
    (_broken_records, 'records.parquet: not readable'),
    (_no_records, 'no records yet'),
    (_nothing_finite, "not finite in 'pretrain 25k'; lower the learning rate there$"),
  ],
)
def test_bad_workdir_is_one_line_with_the_fix(workdir, tmp_path, damage, says):
  bad = tmp_path / 'w'
  shutil.copytree(workdir, bad)
  damage(bad)
  with pytest.raises(BadInput, match=says) as error:
    tables.load(bad)
  assert '\n' not in str(error.value)


def test_unknown_study_names_the_nearest(workdir):
  with pytest.raises(BadInput, match="nearest: 'synthetic'"):
    tables.load(workdir, 'syntetic')


def test_the_crossed_study_is_of_the_largest_pool_and_of_no_run_of_its_own():
  cell = {'seed': 0, 'model': '25k', 'pretrain_tokens': 0, 'sft_tokens': 100, 'synthetic': 'none'}
  rows = [cell | {'sft_pool_tokens': pool} for pool in (50, 200, None)]
  rows += [cell | {'sft_pool_tokens': 30, 'model': '75k'}]  # the largest of its own size
  rows += [cell | {'sft_pool_tokens': 0, 'sft_tokens': 0}]  # before SFT
  rows += [cell | {'sft_pool_tokens': 200, 'synthetic': 'rft'}]
  kept = tables.crossed(pd.DataFrame(rows))
  assert kept['sft_pool_tokens'].fillna(-1).tolist() == [200, -1, 30, 0]
  assert len(tables.crossed(pd.DataFrame(rows).drop(columns='sft_pool_tokens'))) == 5


def test_a_law_of_one_base_is_of_the_most_pretrained_of_each_model():
  rows = pd.DataFrame({'model': ['a', 'a', 'b', 'b', 'b'], 'pretrain_tokens': [1, 2, 5, 3, 5]})
  assert tables.most_pretrained(rows).index.tolist() == [1, 2, 4]
