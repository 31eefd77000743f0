"""The bar that a run draws on a terminal."""

import io

from scaling.launch import local
from scaling.stages import stage as stages


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


def test_the_bar_names_a_stage_from_its_beginning_and_nothing_at_the_end(monkeypatch, tmp_path):
  terminal, shown = Terminal(), {}
  last = lambda: terminal.getvalue().rstrip().rpartition('\r')[2]

  def run(setting, stage):
    shown[stage.label] = last()
    setting.progress(1.0, 'block 4 of 4')

  monkeypatch.setattr(local.sys, 'stdout', terminal)
  monkeypatch.setattr(local, 'RUN', {'sample': run})
  todo = [stages.make('sample', None, label, {'of': label}) for label in ('first', 'second')]
  setting = stages.Setting(tmp_path, None, None, 30.0, {}, lambda part, words: None, {})
  local.launch(setting, todo, {stage.id: 10.0 for stage in todo})

  assert all(f'{label} (starting)' in bar for label, bar in shown.items()) and len(shown) == 2
  (end,) = [line for line in terminal.getvalue().split('\r') if line.startswith('100%')][-1:]
  assert 'to go' not in end and 'block 4' not in end
