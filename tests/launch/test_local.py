"""The bar that a run draws on a terminal."""

import io

import pytest

from scaling import compute
from scaling.errors import BadInput, Refused
from scaling.launch import local
from scaling.stages import stage as stages


class Terminal(io.StringIO):
  def isatty(self) -> bool:
    return True


def setting_of(workdir):
  return stages.Setting(workdir, None, None, 30.0, {}, lambda part, words: None, {})


def test_what_does_not_depend_on_a_stage_that_is_refused_goes_on(monkeypatch, tmp_path, capsys):
  def run(setting, stage):
    if 'why' in stage.recipe:
      raise BadInput(stage.recipe['why'])
    stages.finish(setting, stage, {}, {}, {})

  monkeypatch.setattr(local, 'RUN', {'rl': run, 'sample': run})
  made = lambda label, parent=None, **recipe: stages.make('rl', parent, label, recipe)
  first, free = made('first', why='bank 1: all are right'), made('free')
  child = made('child', first.id)
  todo = [first, child, free, made('by its bank', free.id, bank=child.id), made('last', free.id)]
  todo += [made('other', why='bank 2: all are wrong'), made('again', n=2, why=first.recipe['why'])]
  with pytest.raises(Refused, match=r'^bank 1: all are right\nbank 2: all are wrong$'):
    local.launch(setting_of(tmp_path), todo, {stage.id: 1.0 for stage in todo})
  ended = {s.label for s in todo if stages.done(tmp_path, s.id)}
  assert ended == {'free', 'last'}
  said = capsys.readouterr().out
  assert 'first: refused: bank 1: all are right' in said and said.count('left out: ') == 2
  monkeypatch.setattr(local.processes, 'preempted', lambda: False)
  monkeypatch.setattr(local.processes, 'count', lambda: 2)  # of which one alone may refuse
  with pytest.raises(BadInput, match=r'^bank 1: all are right$'):
    local.launch(setting_of(tmp_path), todo, {stage.id: 1.0 for stage in todo})


def test_a_number_that_is_not_finite_stops_a_stage_and_no_more_is_said_than_is_known(
  monkeypatch, tmp_path, capsys
):
  def run(setting, stage):
    raise stages.NonFinite('step 1: loss nan', compute.empty())

  monkeypatch.setattr(local, 'RUN', {'sft': run})
  stage = stages.make('sft', None, 'first', {})
  local.launch(setting_of(tmp_path), [stage], {stage.id: 1.0})
  said = 'stopped: not finite at step 1: loss nan; what was saved before is kept'
  assert said in capsys.readouterr().out
  assert stages.done(tmp_path, stage.id)['message'] == said


def test_the_bar_names_a_stage_from_its_beginning_and_nothing_at_the_end(monkeypatch, tmp_path):
  terminal, shown = Terminal(), {}
  last = lambda: terminal.getvalue().rstrip().rpartition('\r')[2]

  def run(setting, stage):
    shown[stage.label] = last()
    setting.progress(1.0, 'block 4 of 4')

  monkeypatch.setattr(local.sys, 'stdout', terminal)
  monkeypatch.setattr(local, 'RUN', {'sample': run})
  todo = [stages.make('sample', None, label, {'of': label}) for label in ('first', 'second')]
  local.launch(setting_of(tmp_path), todo, {stage.id: 10.0 for stage in todo})

  assert all(f'{label} (starting)' in bar for label, bar in shown.items()) and len(shown) == 2
  (end,) = [line for line in terminal.getvalue().split('\r') if line.startswith('100%')][-1:]
  assert 'to go' not in end and 'block 4' not in end
