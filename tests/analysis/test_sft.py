"""The laws of SFT side by side: on made-up cells the law that made them wins; on published ones the
rectified law errs less than a power law."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from analysis import laws, sft
from analysis.errors import BadInput

DATA = Path(__file__).parents[2] / '../shared/data/sft_rectified'
SIZES = {'25k': 25e3, '75k': 75e3, '150k': 150e3, '400k': 400e3}
BUDGETS = 1e5 * 2.0 ** np.arange(5)
MULTIPLICATIVE = lambda N, D, U: laws.sft_multiplicative(9e4, 0.35, 0.5, 0.2, N, D)
ADDITIVE = lambda N, D, U: laws.sft_additive(100, 0.5, 3e4, 0.9, 0.2, N, D)
REPEATED = lambda N, D, U: laws.data_constrained(0.2, 100, 0.5, 3e3, 0.7, 1e9, 2.0, N, D, U)


def records(law, pools=(np.inf,), seeds=(0, 1, 2), noise=0.002, sizes=SIZES):
  """What a study of these cells writes down: the loss of each, with noise, and pass@1."""
  rng, rows = np.random.default_rng(3), []
  for seed in seeds:
    for model, N in sizes.items():
      for pool in pools:
        for D in BUDGETS:
          cell = dict(
            study='s', stage=f'sft-{len(rows)}', seed=seed, model=model, params_non_embedding=N,
            pretrain_tokens=1e5, sft_tokens=D, sft_unique_tokens=min(D, pool), rl_updates=0,
            trunk=f'{model}-{seed}-{pool}', synthetic='none', synthetic_paths=0,
            synthetic_examples=0,
          )  # fmt: skip
          value = law(N, D, min(D, pool)) * np.exp(noise * rng.standard_normal())
          rows.append(cell | dict(metric='loss', strategy='none', k=0, value=value))
          rate = 0.1 + 0.02 * np.log(D / 1e5) + 0.001 * rng.standard_normal()
          rows.append(cell | dict(metric='accuracy', strategy='oracle', k=1, value=rate))
          rows.append(cell | dict(metric='accuracy', strategy='oracle', k=8, value=0.9))
  return pd.DataFrame(rows)


def best(compared, split, which='all', measure='loss', joint=True):
  """(the law that errs least, its row, the next row): of those of all sizes together."""
  table = compared.table
  rows = table[(table['split'] == split) & (table['cells'] == which)]
  rows = rows[rows['measure'] == measure]
  rows = rows[~rows['law'].str.contains('a size each')] if joint else rows
  return rows.iloc[0]['law'], rows.iloc[0], rows.iloc[1] if len(rows) > 1 else None


@pytest.fixture(scope='module')
def multiplicative():
  return sft.compare(sft.cells(records(MULTIPLICATIVE)), resamples=60)


def test_each_base_has_a_law_of_its_own_where_pretraining_differs():
  table = records(MULTIPLICATIVE, seeds=(0,), sizes={'25k': 25e3})
  more = table.assign(
    pretrain_tokens=4e5, value=0.8 * table['value'], trunk='25k-0-more',
    stage=[f'more-{i}' for i in range(len(table))],
  )  # fmt: skip
  found = sft.cells(pd.concat([table, more], ignore_index=True))
  assert set(found['model']) == {'25k, 100k pretrained', '25k, 400k pretrained'}
  laws_of = {c.name: c for c in sft.candidates(found, 'loss')}
  assert laws_of['multiplicative'].columns['X'] == 'pretrained'
  both = sft.cells(pd.concat([records(MULTIPLICATIVE, seeds=(0,)), more], ignore_index=True))
  assert 'multiplicative' not in {c.name for c in sft.candidates(both, 'loss')}


def test_cells_are_those_of_sft_alone_and_their_budgets_are_counted_from_the_end():
  table = records(MULTIPLICATIVE, seeds=(0,), sizes={'25k': 25e3})
  other = table.head(3).assign(rl_updates=10)
  made = table.head(3).assign(synthetic='rft', synthetic_paths=9)
  uneven = table.assign(sft_tokens=table['sft_tokens'] * 1.001, trunk='other', stage='x')
  found = sft.cells(pd.concat([table, other, made, uneven]))
  assert len(found) == 10 and (found['pass@1'] < 0.5).all() and not found['repeats'].any()
  assert found.groupby('budget')['tokens'].nunique().to_dict() == dict.fromkeys(range(5), 2)
  assert (found.loc[found['budget'] == 0, 'tokens'] >= BUDGETS[-1]).all()


def test_a_multiplicative_law_is_told_from_an_additive_one(multiplicative):
  said = sft.words(multiplicative)
  for split in sft.SPLITS:
    law, first, second = best(multiplicative, split)
    assert law == 'multiplicative' and second['law'].startswith('additive')
    assert first['error'] < 0.02 < second['error'] < first['baseline']
    assert first['low'] < first['error'] < first['high']
    (line,) = [x for x in said if x.startswith(f'{split.capitalize()} left out') and 'loss' in x]
    beyond = second['gap_low'] > 0
    assert beyond == ('no more than noise' not in line)
    if split != 'corner':  # three cells of three trunks
      assert beyond and first['high'] < second['low'] and first['error'] < 0.005


def test_and_an_additive_one_from_a_multiplicative_one():
  compared = sft.compare(sft.cells(records(ADDITIVE, seeds=(0, 1))), resamples=0)
  for split in sft.SPLITS:
    law, first, second = best(compared, split)
    assert law.startswith('additive') and first['error'] < 0.01 < 0.05 < second['error']
    assert np.isnan(first['low']) and np.isnan(second['gap_low'])


def test_laws_that_know_of_repetition_win_where_tokens_are_repeated():
  sizes = {name: SIZES[name] for name in ('25k', '400k')}
  table = records(REPEATED, pools=(5e4, 1.6e6), seeds=(0,), sizes=sizes)
  compared = sft.compare(sft.cells(table), resamples=0)
  law, first, second = best(compared, 'largest budget')
  assert law == 'data-constrained' and first['error'] < 0.02 < 0.2 < second['error']
  laws_of = compared.table.groupby('cells')['law'].unique()
  assert not [name for name in laws_of['no repeats'] if 'constrained' in name]
  found = compared.held['loss', 'all', 'largest budget', 'data-constrained']
  assert found.fits[0].params['R_D'] == pytest.approx(2.0, rel=0.3)
  once = compared.table[compared.table['cells'] == 'no repeats']
  assert (once['fitted'] + once['held']).max() == 10  # the cells of the large pool


def test_one_size_has_the_laws_of_one_size():
  table = records(REPEATED, pools=(5e4, 1.6e6), seeds=(0, 1), sizes={'150k': 150e3})
  compared = sft.compare(sft.cells(table), resamples=0)
  law, first, second = best(compared, 'largest budget', joint=False)
  assert law == 'data-constrained, a size each' and 2 * first['error'] < second['error']


def test_pass_at_1_is_linear_in_the_log_of_tokens(multiplicative):
  law, first, _ = best(multiplicative, 'largest budget', measure='pass@1', joint=False)
  assert law.startswith('log-linear') and first['error'] < 0.002 < 0.01 < first['baseline']


def test_accuracy_over_distinct_paths_of_runs_of_rft():
  rows = []
  for seed in (0, 1):
    for n, paths, examples in ((1, 90, 100), (2, 150, 200), (4, 220, 400), (8, 260, 800)):
      rows.append(dict(
        stage=f'sample-{seed}-{n}', seed=seed, model='75k', params_non_embedding=75e3, k=1,
        synthetic=f'rft(n={n})', synthetic_paths=paths, synthetic_examples=examples,
        metric='accuracy', strategy='oracle', value=-0.3 + 0.1 * np.log(paths),
      ))  # fmt: skip
  table = pd.concat([pd.DataFrame(rows), pd.DataFrame(rows[:1]).assign(synthetic='star')])
  made = sft.paths(table)
  assert len(made) == 8 and made['budget'].tolist() == [3, 2, 1, 0] * 2
  compared = sft.compare(sft.cells(records(ADDITIVE, seeds=(0,))), made, resamples=0)
  law, first, second = best(compared, 'largest budget', 'rft', 'pass@1', joint=False)
  assert law == 'log-linear in paths, a size each' and first['error'] < 1e-6 < second['error']
  few = records(ADDITIVE, seeds=(0,), sizes={'75k': 75e3})
  few = few[few['sft_tokens'] < 3e5]
  alone = sft.compare(sft.cells(few), made, resamples=0)
  assert set(alone.table['cells']) == {'rft'} and sft.draw(alone) is None
  with pytest.raises(BadInput, match='--out: a picture is of losses'):
    sft._picture(alone, 'no.png')


def test_the_nearest_cell_is_the_mean_of_the_seeds_that_are_as_near():
  table = records(MULTIPLICATIVE, noise=0.3)
  uneven = table.assign(sft_tokens=table['sft_tokens'] * (1 + 1e-3 * table['seed']))
  compared = sft.compare(sft.cells(uneven), resamples=0)
  cells = compared.cells.pivot_table(index='model', columns=['budget', 'seed'], values='loss')
  of_seeds, last = cells[1].mean(axis=1), cells[0]
  apart = np.log(last.div(of_seeds, axis=0)).to_numpy()
  _, first, _ = best(compared, 'largest budget')
  assert first['baseline'] == pytest.approx(np.sqrt(np.mean(apart**2)))
  _, first, _ = best(compared, 'corner')
  apart = np.log(last.loc['400k'] / of_seeds['150k'])
  assert first['baseline'] == pytest.approx(np.sqrt(np.mean(apart**2)))


@pytest.mark.parametrize('seeds', [(0, 1, 2), (0,)])
def test_where_all_cells_of_the_most_tokens_repeat_the_next_are_left_out(seeds):
  table = records(REPEATED, pools=(8e5,), seeds=seeds)
  bank = table['metric'] == 'accuracy'
  compared = sft.compare(sft.cells(table[~bank | (table['sft_tokens'] < 1e6)]), resamples=20)
  once = compared.table.query("cells == 'no repeats' or measure == 'pass@1'")
  for _, rows in once[once['split'] == 'largest budget'].groupby('measure'):
    assert (rows['held'] == 4 * len(seeds)).all() and (rows['fitted'] == 12 * len(seeds)).all()
  assert {'loss', 'pass@1'} <= set(once['measure']) and once['error'].notna().all()
  assert 'nan' not in ' '.join(sft.words(compared))


def test_too_few_cells_are_refused_in_one_line():
  few = records(ADDITIVE, sizes={'25k': 25e3})
  few = few[few['sft_tokens'] < 3e5]
  with pytest.raises(BadInput, match=r'6 SFT cells of 1 sizes and 2 budgets: .* 4 budgets'):
    sft.compare(sft.cells(few))
  with pytest.raises(BadInput, match='no SFT cell'):
    sft.compare(sft.cells(few[few['metric'] != 'loss']))


def test_the_command_prints_writes_and_refuses(tmp_path, capsys):
  workdir = tmp_path / 'w'
  (workdir / 'studies').mkdir(parents=True)
  (workdir / 'version.json').write_text('{"format": 1}')
  folder = workdir / 'stages' / 'sft-0'
  folder.mkdir(parents=True)
  table = records(MULTIPLICATIVE, seeds=(0,)).drop(columns='study')
  table = table[table['model'] != '75k']
  table.to_parquet(folder / 'records.parquet')
  (workdir / 'studies' / 's.json').write_text(json.dumps({'stages': [{'id': 'sft-0'}]}))
  out = tmp_path / 'sft.png'
  assert sft.main([str(workdir), f'--out={out}', f'--csv={tmp_path / "sft.csv"}']) == 0
  said = capsys.readouterr().out
  assert 'multiplicative' in said and 'Corner left out' in said
  assert out.stat().st_size > 10_000 and len(pd.read_csv(tmp_path / 'sft.csv')) >= 9
  table[table['model'] == '25k'].query('sft_tokens < 3e5').to_parquet(folder / 'records.parquet')
  assert sft.main([str(workdir)]) == 2
  assert capsys.readouterr().err.startswith('analysis.sft: 2 SFT cells')


def published(name):
  """Cells of a published table: a model a trunk, tokens counted in examples."""
  if not DATA.exists():
    pytest.skip(f'the shared data is not here: {DATA}')
  wide = pd.read_csv(DATA / f'{name}.csv')
  table = wide.melt(['config name', 'size', 'family'], var_name='tokens', value_name='loss')
  table = table.rename(columns={'config name': 'model'}).dropna(subset=['loss'])
  table = table.assign(tokens=table['tokens'].astype(float)).query('tokens > 0')
  budget = table.groupby('model')['tokens'].rank(ascending=False).astype(int) - 1
  table = table.assign(budget=budget, trunk=table['model'], seed=0, repeats=False, pretrained=0.0)
  return table.astype({'size': float}).assign(unique=table['tokens'], **{'pass@1': np.nan})


@pytest.mark.parametrize('name', ['flan', 'wmt19'])
def test_published_losses_are_extrapolated_better_by_the_rectified_law(name):
  table = published(name)
  some = table[table['model'].isin(sorted(table['model'].unique())[::6])]
  compared = sft.compare(some, resamples=0)
  errors = compared.table[compared.table['split'] == 'largest budget'].set_index('law')['error']
  assert errors['rectified, a size each'] < 0.6 * errors['power, a size each']
