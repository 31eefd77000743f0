"""One question to a trained model: what is printed is what it drew."""

import re

import pytest

from scaling import ask
from scaling.errors import BadInput
from tests import tiny


def test_votes_and_samples_add_up(tiny_workdir):
  text = ask.ask(tiny.get_config(), tiny_workdir, '12+34-5=')
  assert "prompt: '12+34-5='" in text and 'grpo 3 updates' in text.splitlines()[0]
  assert text == ask.ask(tiny.get_config(), tiny_workdir, '12+34-5=')
  votes = [int(line.split()[0]) for line in re.split('\n\n', text)[1].splitlines()[1:]]
  n = int(re.search(r'(\d+) samples', text)[1])
  assert sum(votes) == n == 4  # those of a block
  assert len(re.findall(r"^ +\d+ +-\d+\.\d+  '", text, re.M)) == n
  assert text != ask.ask(tiny.get_config(), tiny_workdir, '12+34-6=')


def test_what_cannot_be_asked(tiny_workdir, tmp_path):
  for text, says in (
    ('¿', "the character '¿' is not in the vocabulary 'arithmetic'"),
    ('', 'empty'),
  ):
    with pytest.raises(BadInput, match=says):
      ask.ask(tiny.get_config(), tiny_workdir, text)
  with pytest.raises(BadInput, match=r'no model of this study is trained in .*; run the same'):
    ask.ask(tiny.get_config(), tmp_path, '1+1=')
