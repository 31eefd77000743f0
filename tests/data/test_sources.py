import collections
import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scaling.data import problem_files, sources
from scaling.errors import BadInput

ROWS = [{'q': f'What is {i} + 1, é?', 'a': f'It is {i + 1}.'} for i in range(3000)]
LINES = ''.join(json.dumps(row) + '\n' for row in ROWS).encode()


def written(tmp_path, ending):
  path = tmp_path / f'a{ending}'
  if ending == '.parquet':
    table = pa.Table.from_pylist([row | {'more': 3} for row in ROWS])
    pq.write_table(table, path, row_group_size=1100)
  else:
    path.write_bytes(gzip.compress(LINES) if ending.endswith('.gz') else LINES)
  return str(path)


def read(name, path, style='full', **arguments):
  return list(problem_files.read(name, path, arguments, style, collections.Counter()))


@pytest.mark.parametrize('ending', ['.jsonl', '.jsonl.gz', '.parquet'])
def test_the_same_rows_from_every_kind_of_file(tmp_path, ending):
  path = written(tmp_path, ending)
  drafts = read('responses', path, prompt='q', response='a')
  assert [draft.problem.prompt for draft in drafts] == [row['q'] + '\n' for row in ROWS]
  assert [draft.problem.solution for draft in drafts] == [row['a'] for row in ROWS]
  assert drafts[2000].origin == f'{path}:2001'
  before = sources.fingerprint(path)
  assert before == sources.fingerprint(path)
  with pytest.raises(BadInput, match=r"(the field|no column) 'prompt'.*it has .*q"):
    read('responses', path)


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
  """A data set of TFDS as `tfds build` leaves it."""
  import tensorflow_datasets as tfds

  folder = tmp_path_factory.mktemp('tfds')
  text = tfds.features.Text()
  features = tfds.features.FeaturesDict({'q': text, 'a': text, 'n': np.int32})
  rows = [(i, row | {'n': 3}) for i, row in enumerate(ROWS[:50])]
  data = tfds.dataset_builders.store_as_tfds_dataset(
    name='sums',
    version='1.0.0',
    data_dir=folder,
    features=features,
    split_datasets={'train': rows[:40], 'test': rows[40:]},
    file_format='tfrecord',
  )
  assert data
  return folder


def test_a_data_set_of_tfds_by_name(data_dir, monkeypatch):
  import tensorflow_datasets as tfds

  monkeypatch.setattr(tfds.core.constants, 'DATA_DIR', str(data_dir))
  drafts = read('responses', 'tfds:sums/train', prompt='q', response='a')
  found = {(draft.problem.prompt, draft.problem.solution) for draft in drafts}
  assert found == {(row['q'] + '\n', row['a']) for row in ROWS[:40]}
  again = read('responses', 'tfds:sums:1.0.0/train', prompt='q', response='a')
  assert [draft.problem for draft in again] == [draft.problem for draft in drafts]
  assert len(read('responses', 'tfds:sums/train[:10%]', prompt='q', response='a')) == 4
  assert len(sources.fingerprint('tfds:sums/test')) == 64
  with pytest.raises(BadInput, match=r"tfds:sums/valid: no split 'valid': it has test, train"):
    read('responses', 'tfds:sums/valid', prompt='q', response='a')
  for path in ('tfds:no_such_set/train', 'tfds:gsm8k/train'):
    with pytest.raises(BadInput, match=r'(no such data set here|not on this machine)') as error:
      read('responses', path, prompt='q', response='a')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'path', ['https://a.b/c.jsonl', 'gs://bucket/a.jsonl', 's3://bucket/a.parquet', 'hf://data/x']
)
def test_a_path_that_needs_the_network(path):
  for use in (sources.check, sources.fingerprint, lambda path: list(sources.rows(path, ('q',)))):
    with pytest.raises(BadInput, match=r'needs the network.*: download the file'):
      use(path)


def test_a_name_that_is_no_split_of_tfds():
  with pytest.raises(BadInput, match='write it as tfds:NAME/SPLIT'):
    sources.check('tfds:gsm8k')


@pytest.mark.parametrize(
  'name, content, message',
  [
    ('a.jsonl.gz', gzip.compress(LINES)[:-500], 'cut off or damaged'),
    ('a.jsonl.gz', LINES, 'cut off or damaged'),
    ('a.parquet', LINES, 'not a Parquet file'),
    ('a.jsonl', None, 'No such file'),
    ('a.jsonl.gz', None, 'No such file'),
    ('a.parquet', None, 'No such file'),
  ],
)
def test_files_that_are_damaged_or_missing(tmp_path, name, content, message):
  path = tmp_path / name
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(BadInput, match=rf'{path}: .*{message}') as error:
    list(sources.rows(str(path), ('q', 'a')))
  assert '\n' not in str(error.value)


def test_a_text_of_parquet_that_is_not_utf8_is_a_bad_line(tmp_path):
  path = str(tmp_path / 'a.parquet')
  text = pa.array([b'fine', b'\xff', 'caf\u00e9'.encode()], pa.binary()).view(pa.string())
  pq.write_table(pa.table({'q': text, 'a': ['x', 'y', 'z']}), path)
  with pytest.raises(BadInput, match=r"a\.parquet:2: the field 'q' is not UTF-8"):
    read('responses', path, prompt='q', response='a')
  found = read('responses', path, prompt='q', response='a', skip_bad_lines=True)
  assert [draft.problem.prompt for draft in found] == ['fine\n', 'caf\u00e9\n']


def test_chats_of_parquet(tmp_path):
  path = str(tmp_path / 'a.parquet')
  chats = [
    [{'role': 'user', 'content': f'Hi {i}?'}, {'role': 'assistant', 'content': 'Ho.'}]
    for i in range(3)
  ]
  pq.write_table(pa.table({'messages': chats, 'id': [1, 2, 3]}), path)
  assert [d.problem.prompt for d in read('messages', path)] == [f'Hi {i}?\n' for i in range(3)]
