"""Where rows of data come from, one at a time: whatever their number, one is in memory.

    a.jsonl, a.jsonl.gz    a JSON object a line; any other ending is read as JSONL too
    a.parquet              a row is an object of its columns
    tfds:NAME/SPLIT        a data set of tensorflow_datasets that is on this machine, say
                           tfds:gsm8k/train or tfds:glue/mnli:2.0.0/train[:10%]

Nothing is fetched: a path that needs the network is refused. What a row means is said by
`problem_files`.
"""

import gzip
import hashlib
import pathlib
import re
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from scaling.errors import BadInput

TFDS = 'tfds:'


def check(path: str) -> None:
  """BadInput for a path that needs the network, or that names no data set of TFDS."""
  if re.match(r'[A-Za-z][A-Za-z0-9+.-]*://', path):
    raise BadInput(
      f'{path}: needs the network, and preparing data does not use it: download the file and give '
      'its path'
    )
  if path.startswith(TFDS) and not re.fullmatch(r'[\w/:.*+-]+/[^/]+', path.removeprefix(TFDS)):
    raise BadInput(f'{path}: write it as tfds:NAME/SPLIT, say tfds:gsm8k/train')


def fingerprint(path: str) -> str:
  """SHA-256 of what is at a path; of a data set of TFDS, of all its files. BadInput as `rows`."""
  check(path)
  if not path.startswith(TFDS):
    try:
      with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
      raise _unreadable(path, error) from None
  builder, _ = _builder(path)
  digest = hashlib.sha256()
  for file in sorted(pathlib.Path(builder.data_path).iterdir()):
    with open(file, 'rb') as opened:
      digest.update(hashlib.file_digest(opened, 'sha256').digest())
  return digest.hexdigest()


def rows(path: str, fields: tuple[str, ...]) -> Iterator[tuple[str, bytes | dict]]:
  """Yields (where a message points, a line of JSON or an object with at least `fields`).

  Of Parquet and TFDS only columns named in `fields` are read that are there. BadInput where the
  source is not there, or is damaged.
  """
  check(path)
  if path.startswith(TFDS):
    yield from _of_tfds(path, fields)
  elif path.endswith('.parquet'):
    yield from _of_parquet(path, fields)
  else:
    yield from _of_lines(path)


def _unreadable(path: str, error: OSError) -> BadInput:
  return BadInput(
    f'{path}: {error.strerror or error}: give the path of a file of rows (JSONL, JSONL.gz, '
    "Parquet); GSM8K's, say, is grade_school_math/data/train.jsonl from "
    'https://github.com/openai/grade-school-math'
  )


def _of_lines(path: str) -> Iterator[tuple[str, bytes]]:
  try:
    with gzip.open(path) if path.endswith('.gz') else open(path, 'rb') as file:
      for at, line in enumerate(file, 1):
        if line.strip():
          yield f'{path}:{at}', line.rstrip(b'\r\n')
  except (EOFError, zlib.error, gzip.BadGzipFile) as error:
    raise BadInput(f'{path}: cut off or damaged ({error}): fetch it again') from None
  except OSError as error:
    raise _unreadable(path, error) from None


def _of_parquet(path: str, fields: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
  at = 0
  try:
    with pq.ParquetFile(path) as file:
      columns = [name for name in file.schema_arrow.names if name in fields]
      if not columns:
        raise BadInput(
          f'{path}: no column {fields[0]!r}: it has {", ".join(file.schema_arrow.names)}'
        )
      for batch in file.iter_batches(1024, columns=columns):
        for row in _as_bytes(batch).to_pylist():
          at += 1
          yield f'{path}:{at}', _plain(row)
  except UnicodeDecodeError:
    raise BadInput(f'{path}: after row {at}: a text is not UTF-8: write it as UTF-8') from None
  except pa.ArrowInvalid as error:
    raise BadInput(f'{path}: not a Parquet file, or damaged ({_line(error)})') from None
  except OSError as error:
    raise _unreadable(path, error) from None


def _as_bytes(batch: pa.RecordBatch) -> pa.RecordBatch:
  """Texts as bytes: pyarrow does not look whether they are UTF-8, and fails where one is not."""
  fields = [
    field.with_type(pa.binary()) if pa.types.is_string(field.type) else field
    for field in batch.schema
  ]
  return batch.cast(pa.schema(fields))


# -- TFDS


def _builder(path: str) -> tuple:
  """(the builder of a data set, its split). BadInput where it is not on this machine."""
  name, _, split = path.removeprefix(TFDS).rpartition('/')
  try:
    import tensorflow_datasets as tfds
  except ImportError:
    raise BadInput(f'{path}: tensorflow_datasets is not installed: pip install it') from None
  folder = tfds.core.constants.DATA_DIR
  try:
    builder = tfds.builder(name, try_gcs=False)
    there = pathlib.Path(builder.data_path).is_dir() and builder.info.splits
  except Exception as error:  # whatever a builder may raise
    raise BadInput(
      f'{path}: no such data set here ({_line(error)}): it is looked for by name in {folder} '
      '(TFDS_DATA_DIR), and nothing is downloaded'
    ) from None
  if not there:
    raise BadInput(
      f'{path}: not on this machine: put it into {folder} (or where TFDS_DATA_DIR says) by '
      f'`tfds build {name}` where there is a network'
    )
  if re.match(r'\w+', split)[0] not in builder.info.splits:
    raise BadInput(f'{path}: no split {split!r}: it has {", ".join(sorted(builder.info.splits))}')
  return builder, split


def _of_tfds(path: str, fields: tuple[str, ...]) -> Iterator[tuple[str, dict]]:
  import tensorflow_datasets as tfds

  builder, split = _builder(path)
  try:
    data = builder.as_dataset(split=split, shuffle_files=False)
    for at, row in enumerate(tfds.as_numpy(data), 1):
      yield f'{path}:{at}', {name: _plain(row[name]) for name in fields if name in row}
  except ValueError as error:  # of a split that cannot be cut so
    raise BadInput(f'{path}: {_line(error)}') from None


def _plain(value):
  """What is in a row, as JSON has it. Bytes that are not UTF-8 stay, and are refused later."""
  if isinstance(value, bytes):
    try:
      return value.decode()
    except UnicodeDecodeError:
      return value
  if isinstance(value, dict):
    return {name: _plain(one) for name, one in value.items()}
  if isinstance(value, list | np.ndarray):
    return [_plain(one) for one in (value if isinstance(value, list) else value.tolist())]
  return value.item() if isinstance(value, np.generic) else value


def _line(error) -> str:
  return ' '.join(str(error).split())[:160]
