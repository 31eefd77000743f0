"""Writing files so that a reader, or a run cut off, never sees half of one.

In a run of several processes the first alone writes; for the others these functions do nothing.
"""

import contextlib
import json
import os
from pathlib import Path

import numpy as np
import pandas as pd

from scaling import processes
from scaling.errors import BadInput

PARTIAL = '.partial'  # ends the name of a file that is being written


def _scratch(path: Path) -> Path:
  return path.with_name(f'.{path.name}.{os.getpid()}{PARTIAL}')


@contextlib.contextmanager
def replacing(path: Path):
  """A path to write a file at, which takes the place of `path` where the block ends well."""
  scratch = _scratch(path)
  yield scratch
  os.replace(scratch, path)


def write_text(path: Path, text: str) -> None:
  """Writes a file whole or not at all."""
  if not processes.first():
    return
  scratch = _scratch(path)
  with open(scratch, 'w') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  os.replace(scratch, path)


def write_json(path: Path, value) -> None:
  """Writes JSON whole or not at all."""
  write_text(path, json.dumps(value, indent=1) + '\n')


def write_table(path: Path, table: pd.DataFrame) -> None:
  """Writes a Parquet file whole or not at all."""
  if not processes.first():
    return
  scratch = _scratch(path)
  table.to_parquet(scratch, index=False)
  os.replace(scratch, path)


def write_arrays(path: Path, arrays: dict) -> None:
  """Writes named arrays as .npz, whole or not at all; makes the folder."""
  if not processes.first():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as scratch, open(scratch, 'wb') as file:
    np.savez(file, **arrays)


def read_json(path: Path):
  """The JSON of a file. BadInput, naming it, where it does not parse."""
  try:
    return json.loads(path.read_text())
  except json.JSONDecodeError as error:
    raise BadInput(f'{path}:{error.lineno}: not JSON ({error.msg}); remove the file') from error
