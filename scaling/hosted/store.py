"""Completions as they came, one JSON object a line, each on disk before the next is asked for.

    workdir/hosted/<hash of all that a completion depends on>/completions.jsonl

Kept apart from the stages, which read the first n samples of the first problems out of it: a stage
that asks for more draws only what is missing, and one with another verifier or other prices draws
nothing. A line that a killed run left half written is cut off when the file is opened again.
"""

import hashlib
import json
import os
from pathlib import Path

from scaling.errors import BadInput
from scaling.hosted.client import Completion

NAME = 'completions.jsonl'


def folder(workdir: Path, **depends_on) -> Path:
  """Where completions that depend on these things are kept."""
  text = json.dumps(depends_on, sort_keys=True)
  return Path(workdir) / 'hosted' / hashlib.sha256(text.encode()).hexdigest()[:10]


def read(path: Path) -> dict[tuple, dict]:
  """key -> the row of each completion in a folder. BadInput, with its line, for a file not ours."""
  file, rows = Path(path) / NAME, {}
  if not file.exists():
    return rows
  lines = file.read_bytes().split(b'\n')[:-1]  # after the last end of a line: nothing, or a part
  for number, line in enumerate(lines, 1):
    try:
      row = json.loads(line)
      rows[tuple(row.pop('key'))] = row
    except (ValueError, AttributeError, LookupError, TypeError) as error:
      raise BadInput(f'{file}:{number}: not a completion ({error}); remove that line') from None
  return rows


class Writer:
  """Appends to a folder's completions; to be closed."""

  def __init__(self, path: Path):
    Path(path).mkdir(parents=True, exist_ok=True)
    self._file = open(Path(path) / NAME, 'a+b')
    _cut_back(self._file)

  def add(self, key: tuple, completion: Completion, **more) -> dict:
    """Writes one and returns its row."""
    row = completion._asdict() | more
    line = json.dumps({'key': key} | row) + '\n'
    self._file.write(line.encode())
    self._file.flush()
    os.fsync(self._file.fileno())
    return row

  def close(self) -> None:
    self._file.close()


def _cut_back(file) -> None:
  """Cuts off what follows the last whole line."""
  file.seek(0)
  whole = file.read().rfind(b'\n') + 1
  file.truncate(whole)
  file.seek(whole)
