"""A file is there whole or not at all, and what was not finished goes away."""

import os
import time

import pandas as pd
import pytest

from scaling import files


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path):
  path = tmp_path / 'file'
  files.write_text(path, 'old')
  failing = (
    lambda: files.write_text(path, '\udc00'),
    lambda: files.write_table(path, pd.DataFrame({'x': [object()]})),
    lambda: files.write_arrays(path, {'x': (_ for _ in ()).throw}),
  )
  for write in failing:
    with pytest.raises((ValueError, TypeError)):
      write()
    assert path.read_text() == 'old' and list(tmp_path.iterdir()) == [path]


def test_what_writers_that_were_killed_left_is_removed_and_what_may_be_written_now_is_not(tmp_path):
  names = ('.a.1.partial', 'stages/x/.b.2.partial', 'data/.c.partial/part', 'stages/x/b', '.new')
  for name in names:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text('')
  for name in ('.a.1.partial', 'stages/x/.b.2.partial', 'data/.c.partial', 'stages/x/b'):
    os.utime(tmp_path / name, (time.time() - 7200,) * 2)
  (tmp_path / '.d.3.partial').write_text('')
  files.sweep(tmp_path)
  left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob('*') if path.is_file()}
  assert left == {'.d.3.partial', 'stages/x/b', '.new'}
