"""One question to a trained model: what is printed is what it drew."""

import re

import pytest

from scaling import ask, study
from scaling.errors import BadInput
from tests import tiny


def test_votes_and_samples_add_up(tiny_workdir):
  text = ask.ask(tiny.get_config(), tiny_workdir, '12+34-5=')
  assert "prompt: '12+34-5='" in text and text.startswith('the last model that the study trained,')
  assert 'grpo 3 updates' in text.splitlines()[0]
  assert text == ask.ask(tiny.get_config(), tiny_workdir, '12+34-5=')
  votes = [int(line.split()[0]) for line in re.split('\n\n', text)[1].splitlines()[1:]]
  n = int(re.search(r'(\d+) samples', text)[1])
  assert sum(votes) == n == 4  # those of a block
  assert len(re.findall(r"^ +\d+ +-\d+\.\d+  '", text, re.M)) == n
  assert text != ask.ask(tiny.get_config(), tiny_workdir, '12+34-6=')


def test_the_last_model_in_the_order_of_the_tree_answers(tiny_workdir):
  """RL comes after SFT, also of a larger size; trunks, which have no bank, do not count."""
  stages = study.expand(tiny.get_config())
  answers = ask._model(stages, tiny_workdir)
  assert answers.kind == 'rl' and 'grpo 3 updates' in answers.label
  sft_last = [s for s in stages if s.kind != 'rl'] + [s for s in stages if s.kind == 'sft']
  banked = {s.parent for s in stages if s.kind == 'sample'}
  assert ask._model(sft_last, tiny_workdir).id == [s for s in sft_last if s.id in banked][-1].id
  assert ask._model([s for s in stages if s.kind == 'pretrain'], tiny_workdir).kind == 'pretrain'


def test_what_cannot_be_asked(tiny_workdir, tmp_path):
  for text, says in (
    ('¿', "the character '¿' is not in the vocabulary 'arithmetic'"),
    ('', 'empty'),
  ):
    with pytest.raises(BadInput, match=says):
      ask.ask(tiny.get_config(), tiny_workdir, text)
  with pytest.raises(BadInput, match=r'no model of this study is trained in .*; run the same'):
    ask.ask(tiny.get_config(), tmp_path, '1+1=')
