"""The study of a hosted model from config to report, with a model that is a function of this file.

tests/hosted/test_server.py has the same over a server and the providers' SDKs.
"""

import asyncio
import contextlib
import hashlib
import json
import re

import numpy as np
import pandas as pd
import pytest

from analysis import report, tables
from experiments import api_best_of_n
from scaling import config, plan, study
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.hosted import client, prompts, store
from scaling.hosted.client import Completion, Transient
from scaling.rewards.verifiers import canonical
from scaling.stages import hosted


def _config(**changed):
  c = api_best_of_n.get_config('openai/m,smoke')
  c.hosted.input_price, c.hosted.output_price = 2.0, 10.0
  for key, value in changed.items():
    section, _, name = key.partition('__')
    c[section][name] = value
  return c


class Model:
  """Stands in for a provider: right on the first two of four samples of a problem."""

  def __init__(self):
    self.asked, self.fail, self.judge_says = [], None, None

  @contextlib.asynccontextmanager
  async def connect(self, endpoint, timeout):
    async def call(ask):
      await asyncio.sleep(0)
      if self.fail and self.fail(len(self.asked)):
        raise self.fail(len(self.asked))
      self.asked.append((endpoint.model, ask.prompt))
      return self.answer(endpoint.model, ask.prompt)

    yield call

  def answer(self, model, prompt):
    a, b = map(int, re.search(r'(\d+) \* (\d+)', prompt).groups())
    seen = sum(asked == (model, prompt) for asked in self.asked)
    text, stopped = f'so\n#{a * b if seen <= 2 else seen}', True
    if seen == 4:
      text, stopped = f'so\n#{a * b}', False  # right, and cut off
    if model == 'j':
      right = f'#{a * b}\n</response>' in prompt
      text, stopped = self.judge_says or f'Score: {8 if right else 2}', True
    name = hashlib.sha256(prompt.encode()).hexdigest()[:6]
    finish = 'stop' if stopped else 'length'
    return Completion(text, stopped, finish, 100, 30, 20, model + '-1', name, 0.25)


@pytest.fixture
def model(monkeypatch):
  found = Model()
  monkeypatch.setattr(client, 'connect', found.connect)
  monkeypatch.setattr(client, 'sdk_of', lambda provider: None)
  monkeypatch.setenv('OPENAI_API_KEY', 'sk-very-secret')
  monkeypatch.setenv('ANTHROPIC_API_KEY', 'sk-very-secret')
  monkeypatch.setattr(client, 'FIRST', 0.01)
  return found


def _done(workdir, c):
  (stage,) = study.expand(c)
  return json.loads((workdir / 'stages' / stage.id / 'done.json').read_text())


def test_a_study_is_drawn_measured_and_reported(model, tmp_path):
  c = _config(judge__model='j', judge__output_price=1.0)
  workdir = study.run(c, tmp_path / 'w')
  assert len(model.asked) == 16 + 12  # the judge does not read what was cut off
  assert len([1 for name, _ in model.asked if name == 'j']) == 12

  bank = tables.load_bank(workdir)
  assert (
    len(bank) == 16 and bank.groupby('problem')['sample'].apply(list).tolist() == [[0, 1, 2, 3]] * 4
  )
  assert bank['correct'].tolist() == [True, True, False, False] * 4
  assert bank['answer'].isna().tolist() == [False, False, False, True] * 4
  assert bank['stopped'].tolist() == [True, True, True, False] * 4
  assert (bank['length'] == 30).all() and (bank['input_tokens'] == 100).all()
  assert (bank['answered_by'] == 'm-1').all() and (bank['latency'] == 0.25).all()
  np.testing.assert_allclose(bank['money'], (100 * 2 + 30 * 10) / 1e6)
  assert bank['decode_flops'].isna().all()

  records = tables.load(workdir)
  value = records[records['metric'] == 'accuracy'].set_index(['strategy', 'k'])['value']
  assert [value['oracle', k] for k in (1, 2, 4)] == pytest.approx([1 / 2, 5 / 6, 1])
  assert [value['majority', k] for k in (1, 2, 4)] == pytest.approx([1 / 2, 4 / 6, 1])
  assert [value['judge', k] for k in (1, 2, 4)] == pytest.approx([1 / 2, 5 / 6, 1])
  looks = records.set_index('metric')['value']
  assert looks['truncation_rate'] == 0.25 and looks['parse_rate'] == 0.75
  assert looks['judge_failure_rate'] == 0.0
  flops = [name for name in records if name.startswith('flops_') or name == 'executed_flops']
  assert records[[*flops, 'params']].isna().all(axis=None)
  assert records.loc[records['k'] > 0, 'query_decode_flops'].isna().all()

  (path,) = (workdir / 'stages').glob('*/outcomes.parquet')
  outcomes = pd.read_parquet(path)
  four = (
    outcomes[outcomes['k'] == 4]
    .groupby('strategy')[['prefill_tokens', 'decode_tokens', 'money']]
    .mean()
  )
  assert four.loc['majority'].tolist() == pytest.approx([400, 120, 4 * 5e-4])
  # three of four are judged
  assert four.loc['judge'].tolist() == pytest.approx([700, 210, 4 * 5e-4 + 3 * 30e-6])

  account = _done(workdir, c)['account']
  assert account['completions'] == 28 and account['output_tokens'] == 28 * 30
  assert account['money'] == pytest.approx(16 * 5e-4 + 12 * 30e-6)

  page, said = report.write(workdir)
  assert "the judge's choice of 4 100.0 %" in said[0] and 'one sample solves 50.0 %' in said[0]
  text = page.read_text()
  assert 'Best-of-n of a hosted model' in text and '>Account</h2>' in text
  for written in (p for p in workdir.rglob('*') if p.is_file()):
    assert b'sk-very-secret' not in written.read_bytes(), written


def test_more_samples_draw_only_what_is_missing_and_other_prices_nothing(model, tmp_path):
  study.run(_config(hosted__n=2), tmp_path)
  assert len(model.asked) == 8
  study.run(_config(hosted__n=4), tmp_path)
  assert len(model.asked) == 16
  c = _config(hosted__n=4, hosted__output_price=100.0, hosted__concurrency=1)
  study.run(c, tmp_path)
  assert len(model.asked) == 16
  assert _done(tmp_path, c)['account']['money'] == pytest.approx(16 * (200 + 3000) / 1e6)
  study.run(_config(hosted__n=1), tmp_path)
  assert len(model.asked) == 16
  study.run(_config(hosted__n=1, hosted__temperature=0.5), tmp_path)
  assert len(model.asked) == 20


def test_more_problems_draw_only_what_is_missing(model, tmp_path):
  study.run(_config(judge__model='j', data__test_problems=4), tmp_path)
  assert len(model.asked) == 16 + 12
  study.run(_config(judge__model='j', data__test_problems=6), tmp_path)
  assert len(model.asked) == 24 + 18
  study.run(_config(judge__model='j', data__test_problems=2), tmp_path)
  assert len(model.asked) == 24 + 18


def test_a_judge_in_pairs_and_one_that_never_answers(model, tmp_path):
  model.judge_says = 'Better: tie'
  c = _config(judge__model='j', judge__method='pairs')
  study.run(c, tmp_path)
  asked = [prompt for name, prompt in model.asked if name == 'j']
  assert len(asked) == 4 * 3  # every two of the three that have an answer
  value = tables.load(tmp_path, c.name).set_index(['strategy', 'k'])['value']
  # among ties by chance; one without an answer loses to each of the others
  assert value['judge', 4] == pytest.approx(2 / 3) and value['judge', 1] == pytest.approx(1 / 2)

  model.judge_says = 'I would rather not say.'
  for method in ('score', 'pairs'):
    study.run(_config(judge__model='j', judge__method=method, judge__temperature=0.5), tmp_path)
    records = tables.load(tmp_path, c.name)
    assert records.set_index('metric')['value']['judge_failure_rate'] == 1.0
    value = records.set_index(['strategy', 'k'])['value']
    assert value['judge', 4] == pytest.approx(2 / 3)


def test_what_is_asked_and_read_is_by_the_task(monkeypatch):
  monkeypatch.setattr(store, 'folder', lambda workdir, **about: about['template'])
  recipe = study.expand(_config(hosted__n=1))[0].recipe
  maths = recipe | {'data': recipe['data'] | {'task': "math(path='m')"}}
  assert hosted.folders('w', recipe) == (prompts.MARKED, None)
  assert hosted.folders('w', maths) == (prompts.BOXED, None)
  text = '# Summary\nIt rained.\nThen not.'
  problem = Problem('r-1', 'responses', 'q\n', text, canonical('responses', text), {})
  row = Completion(text, True, 'stop', 1, 1, 0, 'm', 'r', 0.1)._asdict()
  found = hosted.table('hosted-1', recipe, [problem], {('r-1', 0): row})
  assert found['correct'].tolist() == [True]


def test_a_cap_stops_it_and_a_higher_one_goes_on(model, tmp_path):
  c = _config(hosted__cap_tokens=3000, hosted__concurrency=2)
  with pytest.raises(BadInput, match=r'config.hosted.cap_tokens=3000: .* of 16 completions were '):
    study.run(c, tmp_path)
  before = len(model.asked)
  assert 10 <= before <= 16 and before * 130 <= 3000
  assert len(tables.load_bank(tmp_path)) == before  # what there is can be read
  c.hosted.cap_tokens = 0
  study.run(c, tmp_path)
  assert len(model.asked) == 16


def test_failures_are_one_line_and_what_was_drawn_is_kept(model, tmp_path):
  model.fail = lambda count: Transient('500: broken') if count >= 5 else None
  c = _config(hosted__retries=1)
  with pytest.raises(BadInput, match=r'm: \d requests failed .*500: broken.* 5 of 16 completions'):
    study.run(c, tmp_path)
  model.fail = None
  study.run(c, tmp_path)
  assert len(model.asked) == 16
  assert len(store.read(hosted.folders(tmp_path, study.expand(c)[0].recipe)[0])) == 16


def test_without_a_key_nothing_is_made(monkeypatch, tmp_path):
  monkeypatch.delenv('OPENAI_API_KEY', raising=False)
  with pytest.raises(BadInput, match='OPENAI_API_KEY is not set'):
    study.run(_config(), tmp_path / 'w')
  assert not (tmp_path / 'w').exists()


def test_the_plan_counts_calls_and_money_and_no_flops():
  c = _config(judge__model='j', judge__method='pairs', judge__output_price=1.0)
  (stage,) = study.expand(c)
  calls, money = hosted.most(stage.recipe)
  assert calls == 4 * 4 + 4 * 6
  assert money == pytest.approx((16 * 1024 * 10 + 24 * 512 * 1) / 1e6)
  text = plan.describe(c, [stage])
  assert '40 calls at the most' in text and '0.1761 in money' in text and 'no cap' in text
  assert plan.seconds([stage], 1e9)[stage.id] > 0 and plan.sharing([stage]) == (0, 0)


def test_how_calls_are_made_is_not_part_of_a_stage():
  ids = {
    study.expand(_config(**{f'hosted__{name}': value}))[0].id
    for name, value in dict(
      concurrency=9, timeout=5.0, retries=1, cap_tokens=99, cap_money=5.0
    ).items()
  }
  assert ids == {study.expand(_config())[0].id}
  others = dict(hosted__n=3, hosted__system='be brief', hosted__base_url='http://x/v1')
  assert len({study.expand(_config(**{k: v}))[0].id for k, v in others.items()} | ids) == 4


@pytest.mark.parametrize(
  'key, value, says',
  [
    ('data__style', 'short', "config.data.style is 'short'"),
    ('hosted__provider', 'acme', "config.hosted.provider is 'acme': one of 'anthropic', 'openai'"),
    ('judge__provider', 'acme', "config.judge.provider is 'acme'"),
    ('hosted__base_url', 'localhost:8000', 'config.hosted.base_url .* must be like'),
    ('hosted__base_url', 'http://me:secret@x/v1', 'config.hosted.base_url has a user'),
    ('hosted__base_url', 'http://x/v1?key=secret', 'config.hosted.base_url has a user'),
    ('hosted__n', 0, 'config.hosted.n is 0: it must be at least 1'),
    ('hosted__max_tokens', 0, 'config.hosted.max_tokens is 0'),
    ('hosted__concurrency', 0, 'config.hosted.concurrency is 0'),
    ('hosted__temperature', -1.0, 'config.hosted.temperature is -1.0'),
    ('hosted__timeout', 0.0, 'config.hosted.timeout is 0.0: it must be more than 0'),
    ('hosted__retries', -1, 'config.hosted.retries is -1'),
    ('hosted__cached_price', -1.0, 'config.hosted.cached_price is -1.0'),
    ('judge__method', 'dice', "config.judge.method is 'dice': one of 'score', 'pairs'"),
  ],
)
def test_a_config_that_cannot_run_is_one_line(key, value, says):
  with pytest.raises(BadInput, match=says) as raised:
    study.expand(_config(**{key: value}))
  assert '\n' not in str(raised.value) and 'secret' not in str(raised.value)


def test_configs_that_contradict_themselves():
  with pytest.raises(BadInput, match='cap_money is set and no price is'):
    study.expand(_config(hosted__cap_money=1.0, hosted__input_price=0.0, hosted__output_price=0.0))
  with pytest.raises(BadInput, match='the judge has no price'):
    study.expand(_config(hosted__cap_money=1.0, judge__model='j'))
  with pytest.raises(BadInput, match='there is nothing to compare'):
    study.expand(_config(hosted__n=1, judge__model='j', judge__method='pairs'))
  c = config.default()
  c.judge.model = 'j'
  with pytest.raises(BadInput, match=r'config.judge.model is set and config.hosted.model is not'):
    study.expand(c)


@pytest.mark.parametrize('arg', ['acme/m', 'openai', 'openai/', 'openai/m,fast'])
def test_the_example_refuses_other_arguments(arg):
  with pytest.raises(BadInput, match='api_best_of_n'):
    api_best_of_n.get_config(arg)


def test_the_example_takes_a_model_with_slashes():
  c = api_best_of_n.get_config('openai/meta/llama-8b')
  assert (c.hosted.provider, c.hosted.model) == ('openai', 'meta/llama-8b')
  assert c.name == 'api_best_of_n-meta_llama_8b'
