"""The bank's files: recovered where they are cut off or damaged, refused where another's."""

import json

import numpy as np
import pandas as pd
import pytest

from analysis import tables
from scaling import bank
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards.verifiers import Verdict
from scaling.stages import stage as stages

ABOUT = bank.identity('sft-1', {'seed': 0, 'model': {'d_model': 8}, 'temperature': 1.0, 'n': 4})
EXECUTED = {'prefill': 10.0, 'decode': 20.0}


def block(places, first=0, samples=4, stage='sample-1'):
  """Rows as the sampler's, made up."""
  rows = []
  for p in places:
    for s in range(first, first + samples):
      tokens = np.random.default_rng([p, s]).integers(3, 30, 5 + (p + s) % 7).astype(np.int32)
      stopped = (p + s) % 5 > 0
      rows.append(
        dict(stage=stage, problem=f'p{p}', place=p, prompt=f'{p}+{p}=', sample=s)
        | dict(response=f'#{(p + s) % 3}', tokens=tokens, logprobs=-tokens.astype(np.float32))
        | dict(sampler_logprobs=-tokens.astype(np.float32), length=len(tokens), stopped=stopped)
        | dict(answer=str((p + s) % 3) if stopped else None, correct=stopped and (p + s) % 3 == 1)
        | dict(reward=np.float32(0), temperature=1.0, prompt_tokens=4, prefill_flops=100.0)
        | dict(decode_flops=float(len(tokens)))
      )
  return pd.DataFrame(rows)


@pytest.fixture
def where(tmp_path):
  folder = tmp_path / 'banks' / 'abc'
  assert bank.prepare(folder, ABOUT) == []
  bank.write(folder, block([0, 1, 2]), EXECUTED)
  bank.write(folder, block([3, 4]), EXECUTED)
  bank.write(folder, block([0, 1, 2], first=4, stage='sample-2'), EXECUTED)
  return folder


ALL = [[0, 0], [1, 0], [2, 0], [0, 4], [1, 4], [2, 4], [3, 0], [4, 0]]


def test_a_bank_is_read_in_order_and_by_pandas_alone(where):
  table = bank.read(where)
  assert list(table.columns) == bank.SCHEMA.names and len(table) == 32
  assert table[['place', 'sample']].apply(tuple, axis=1).is_monotonic_increasing
  plain = pd.read_parquet(where).sort_values(['place', 'sample'], ignore_index=True)
  pd.testing.assert_frame_equal(plain, table, check_exact=True)
  some = bank.read(where, ['problem', 'correct'], n=2, problems=3)
  assert list(some.columns) == ['problem', 'correct'] and len(some) == 6
  assert table.loc[~table['stopped'], 'answer'].isna().all()


def test_a_row_group_is_a_problem_and_the_index_says_what_is_there(where):
  lines = [json.loads(line) for line in (where / '_index.jsonl').read_text().splitlines()]
  assert lines[0] == {'bank': ABOUT} and [line['places'] for line in lines[1:]] == [
    [0, 1, 2],
    [3, 4],
    [0, 1, 2],
  ]
  assert bank.prepare(where, ABOUT) == ALL
  assert len(list((where / '_footers').iterdir())) == 3


def test_the_ledger_of_a_stage_is_of_what_it_drew(where):
  first = bank.spent(where, 'sample-1')
  assert first['executed']['decode'] == 40 and first['model']['prefill'] == 500
  lengths = bank.read(where, ['stage', 'length']).groupby('stage')['length'].sum()
  assert first['model']['decode'] == lengths['sample-1']
  assert bank.spent(where, 'sample-2')['model']['prefill'] == 300
  assert bank.spent(where, 'sample-3')['executed']['decode'] == 0


@pytest.mark.parametrize('kept', [0, 1, 2, 3])
def test_a_shard_cut_off_is_recovered_to_its_last_whole_problem(where, capsys, kept):
  whole, path = bank.read(where), where / 'shard-p00000-s00000.parquet'
  data = path.read_bytes()
  if kept == 3:  # all but the footer
    path.write_bytes(data[:-20])
  else:
    ends = [bank.pq.read_metadata(path).row_group(i).column(0).data_page_offset for i in range(3)]
    path.write_bytes(data[: ends[kept] + 3] if kept else data[:2])
  there = bank.prepare(where, ABOUT)
  assert there == [cell for cell in ALL if cell[1] == 4 or cell[0] >= 3 or cell[0] < kept]
  said = capsys.readouterr().out
  assert said.count('\n') == 1 and str(path) in said and f'{kept} of its' in said
  assert bank.prepare(where, ABOUT) == there and capsys.readouterr().out == ''
  if kept < 3:
    bank.write(where, block(range(kept, 3)), EXECUTED)
  pd.testing.assert_frame_equal(bank.read(where), whole, check_exact=True)


def test_a_damaged_problem_alone_is_lost(where, capsys):
  path = where / 'shard-p00000-s00000.parquet'
  data = bytearray(path.read_bytes())
  following = bank.pq.read_metadata(path).row_group(2).column(0)
  data[following.dictionary_page_offset - 1] ^= 0xFF  # the last byte of the second problem
  path.write_bytes(data)
  with pytest.raises(BadInput, match='parquet: not readable') as error:
    bank.read(where)
  assert '\n' not in str(error.value)
  assert [1, 0] not in bank.prepare(where, ABOUT) and [2, 0] in bank.prepare(where, ABOUT)
  assert '2 of its 3 problems are recovered' in capsys.readouterr().out
  share = bank.spent(where, 'sample-1')['executed']['decode']
  assert share == pytest.approx(20 + 20 * 2 / 3)


def test_what_is_drawn_again_replaces_nothing_that_was_recovered(where):
  whole, path = bank.read(where), where / 'shard-p00000-s00000.parquet'
  data = bytearray(path.read_bytes())
  following = bank.pq.read_metadata(path).row_group(1).column(0)
  data[following.dictionary_page_offset - 1] ^= 0xFF  # the last byte of the first problem
  path.write_bytes(data)
  assert bank.prepare(where, ABOUT) == [cell for cell in ALL if cell != [0, 0]]
  bank.write(where, block([0]), EXECUTED)
  pd.testing.assert_frame_equal(bank.read(where), whole, check_exact=True)
  assert sorted(bank.prepare(where, ABOUT)) == sorted(ALL)


def test_a_torn_index_is_made_anew(where):
  path = where / '_index.jsonl'
  text = path.read_text()
  path.write_text(text[:-30])
  assert bank.prepare(where, ABOUT) == ALL
  assert sorted(path.read_text().splitlines()) == sorted(text.splitlines())


@pytest.mark.parametrize(
  'parent, change, said',
  [('sft-2', {}, 'another model .parent'), ('sft-1', {'temperature': 0.5}, 'another recipe')],
)
def test_another_s_bank_is_refused_in_one_line(where, parent, change, said):
  other = bank.identity(parent, ABOUT['recipe'] | change)
  with pytest.raises(BadInput, match=said) as error:
    bank.prepare(where, other)
  assert '\n' not in str(error.value) and str(where) in str(error.value)


def test_stages_share_a_bank_and_read_their_own_part_of_it(tmp_path):
  recipe = ABOUT['recipe'] | {'n': 4, 'problems': 2, 'measure': True}
  more = recipe | {'n': 8, 'problems': 3, 'measure': False}
  folder = bank.folder_of(tmp_path, 'sft-1', recipe)
  assert folder == bank.folder_of(tmp_path, 'sft-1', more)
  assert folder != bank.folder_of(tmp_path, 'sft-2', recipe)
  assert folder != bank.folder_of(tmp_path, 'sft-1', recipe | {'temperature': 0.5})
  bank.prepare(folder, bank.identity('sft-1', recipe))
  bank.write(folder, block([0, 1, 2]), EXECUTED)
  bank.write(folder, block([0, 1, 2], first=4), EXECUTED)
  for part, rows in ((recipe, 8), (more, 24)):
    stage = stages.make('sample', 'sft-1', '', part)
    stages.folder(tmp_path, stage.id).mkdir(parents=True)
    text = json.dumps(stage._asdict())
    (stages.folder(tmp_path, stage.id) / 'stage.json').write_text(text)
    assert bank.folder(tmp_path, stage.id) == folder
    table = bank.of_stage(tmp_path, stage.id)
    assert len(table) == rows and set(table['stage']) == {stage.id}
    assert tables.bank_folder(tmp_path, stage._asdict()) == folder  # analysis finds the same
    read = tables.stage_bank(tmp_path, stage.id)
    pd.testing.assert_frame_equal(read[table.columns], table, check_exact=True)
    # whoever drew it: a prompt of each block once, the tokens asked for, a share of what was run
    cost = bank.cost(tmp_path, stage.id)
    assert cost['model']['prefill'] == 100 * rows / 4
    assert cost['model']['decode'] == table['length'].sum()
    assert cost['executed']['decode'] == pytest.approx(20 * rows / 12)
  with pytest.raises(BadInput, match='no such stage'):
    bank.folder(tmp_path, 'sample-0')


def test_a_bank_is_rescored_without_drawing(where):
  before = {path: path.read_bytes() for path in where.glob('*.parquet')}
  problems = [Problem(f'p{p}', *[''] * (len(Problem._fields) - 2), {}) for p in range(5)]
  lenient = lambda problem, response: Verdict(response == '#2', response[1:])
  path = bank.rescore(where, problems, lenient, 'lenient')
  table, old = bank.read(where, verdicts='lenient'), bank.read(where)
  assert list(table.columns) == list(old.columns)
  assert (table['correct'] == ((table['response'] == '#2') & table['stopped'])).all()
  assert table.loc[~table['stopped'], 'answer'].isna().all()
  assert not table['correct'].equals(old['correct'])
  assert {p: p.read_bytes() for p in before} == before and path.name.startswith('_')
  assert len(pd.read_parquet(where)) == len(old)  # the verdicts are not read as a shard
  with pytest.raises(BadInput, match="problem 'p0'"):
    bank.rescore(where, problems[1:])


@pytest.mark.parametrize(
  'text, stop, left',
  [
    ('1+2;stop;3', ('stop',), '1+2;'),
    ('aXbY', ('Y', 'X'), 'a'),
    ('xabc', ('xabc', 'ab'), 'x'),  # 'ab' is whole first
    ('aab', ('ab', 'aab'), ''),  # of those that end together, the longest
    ('none', ('stop',), 'none'),
    ('none', (), 'none'),
  ],
)
def test_a_response_is_cut_before_the_stop_string_that_ended_it(text, stop, left):
  assert bank.cut(text, stop) == left
