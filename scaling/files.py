"""Writing files so that a reader, or a run cut off, never sees half of one.

In a run of several processes the first alone writes; for the others these functions do nothing.
"""

import contextlib
import json
import os
import shutil
import time
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
  """A path to write a file at, which takes the place of `path` where the block ends well; where it
  does not, nothing is left of it."""
  scratch = _scratch(path)
  try:
    yield scratch
    os.replace(scratch, path)
  except BaseException:
    with contextlib.suppress(OSError):
      scratch.unlink()
    raise


def sweep(folder: Path) -> None:
  """Removes what writers that were killed left unfinished, anywhere in a folder; nothing that was
  touched in the last hour, which another process may be writing."""
  if not processes.first():
    return
  for path in folder.rglob(f'.*{PARTIAL}'):
    with contextlib.suppress(OSError):
      if time.time() - path.stat().st_mtime > 3600:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_text(path: Path, text: str) -> None:
  """Writes a file whole or not at all."""
  if not processes.first():
    return
  with replacing(path) as scratch, open(scratch, 'w') as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())


def write_json(path: Path, value) -> None:
  """Writes JSON whole or not at all."""
  write_text(path, json.dumps(value, indent=1) + '\n')


def write_table(path: Path, table: pd.DataFrame) -> None:
  """Writes a Parquet file whole or not at all."""
  if not processes.first():
    return
  with replacing(path) as scratch:
    table.to_parquet(scratch, index=False)


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
