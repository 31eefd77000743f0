"""Finished stages as teachers and as judges."""

import json
import shutil

import numpy as np
import pytest

from scaling import sharding, train_step
from scaling.data import attempts, batches
from scaling.errors import BadInput
from scaling.stages import stage as stages
from scaling.stages import teachers
from tests.rewards.test_teacher import batch_of, taken
from tests.stages import by_hand as hand


def changed(workdir, **recipe):
  """A copy of the branch's stage whose recipe says something else."""
  folder = stages.folder(workdir, 'sft-changed')
  shutil.copytree(stages.folder(workdir, hand.branch().id), folder, dirs_exist_ok=True)
  path = folder / 'stage.json'
  stage = json.loads(path.read_text())
  stage['recipe'] |= recipe
  path.write_text(json.dumps(stage))
  return 'sft-changed'


def test_a_stage_teaches_with_its_own_parameters(tiny_workdir):
  setting, branch = hand.setting_of(tiny_workdir), hand.branch()
  found = teachers.load_teacher(setting, branch.id, branch.recipe, 0.7)
  batch, mesh = taken(), sharding.make_mesh()
  got = found.logp(None, batch)
  own = stages.state_of(tiny_workdir, branch.id, mesh).params
  score = train_step.make_score(stages.model(branch.recipe), mesh)
  expected = np.asarray(score(own, batch_of(batch), 0.7)) * batch['mask']
  np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_teachers_that_cannot_be_are_refused(tiny_workdir, tmp_path):
  copy = tmp_path / 'workdir'
  shutil.copytree(tiny_workdir, copy)
  setting, recipe = hand.setting_of(copy), hand.branch().recipe
  with pytest.raises(BadInput, match=r'sft-none: not a finished stage; a teacher is'):
    teachers.load_teacher(setting, 'sft-none', recipe)
  other = changed(copy, data=recipe['data'] | {'vocab': 'ascii'})
  with pytest.raises(BadInput, match=r"^teacher sft-changed: trained with data.vocab='ascii', and"):
    teachers.load_teacher(setting, other, recipe)
  other = changed(copy, data=recipe['data'], model=recipe['model'] | {'vocab_size': 9})
  with pytest.raises(BadInput, match=r'^teacher sft-changed: 9 tokens .* and the student \d+ and'):
    teachers.load_teacher(setting, other, recipe)


def test_a_judge_gives_each_response_of_each_problem_its_verdict(tiny_workdir):
  setting, branch = hand.setting_of(tiny_workdir), hand.branch()
  folder, data = stages.load_data(tiny_workdir, branch.recipe)
  problems = batches.problems(folder, 'test')[:2]
  texts = [[p.solution[:6], '#1', '#1'] for p in problems]
  feedback = teachers.judging(setting, branch.id, data, 'verdict', 4)
  rewards, ledger = feedback(problems, texts, None, None)
  assert rewards.shape == (2, 3) and ledger['model']['reward_model'] > 0
  np.testing.assert_array_equal(rewards[:, 1], rewards[:, 2])
  marks = attempts.marks('short')
  cfg, mesh = stages.model(branch.recipe), sharding.make_mesh()
  own, score = (
    stages.state_of(tiny_workdir, branch.id, mesh).params,
    train_step.make_score(cfg, mesh),
  )
  question = data.vocab.prompt(attempts.verify('short', problems[1].prompt, '#1'))
  chances = []
  for verdict in (marks.right, marks.wrong):
    ids = np.zeros((1, 32), np.int32)
    whole = [*question, *data.vocab.encode(verdict)]
    ids[0, : len(whole)] = whole
    rows = {'tokens': ids, 'positions': np.arange(32)[None], 'segment_ids': np.ones_like(ids)}
    chances.append(np.exp(np.asarray(score(own, rows, 1.0))[0, len(whole) - 1], dtype=np.float64))
  assert rewards[1, 1] == pytest.approx(chances[0] / sum(chances), rel=1e-4)
