"""The providers' own SDKs against a server that speaks both protocols and misbehaves."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from experiments import api_best_of_n
from scaling import study
from scaling.errors import BadInput
from scaling.hosted import client, draw, store
from scaling.hosted.client import Ask, Endpoint, Transient
from scaling.stages import hosted
from tests.hosted.server import Fake

ROOT = Path(__file__).parents[2]
KEY = 'sk-very-secret-1234'
ASK = Ask('What is 12 * 34 ?', 'be brief', 0.5, 77)
PROVIDERS = pytest.mark.parametrize('provider', ['anthropic', 'openai'])
pytestmark = pytest.mark.peers


@pytest.fixture(autouse=True)
def keys(monkeypatch):
  monkeypatch.setattr(client, 'FIRST', 0.02)
  for name in client.KEYS.values():
    monkeypatch.setenv(name, KEY)
  monkeypatch.setenv('ANTHROPIC_BASE_URL', 'http://127.0.0.1:1')  # not ours to follow
  monkeypatch.setenv('OPENAI_BASE_URL', 'http://127.0.0.1:1')


def _call(server, provider, ask=ASK, timeout=5.0):
  async def work():
    async with client.connect(Endpoint(provider, 'm', server.url(provider)), timeout) as call:
      return await call(ask)

  return draw.run(work())


def _config(server, provider, problems=4, n=4):
  c = api_best_of_n.get_config(f'{provider}/m,smoke')
  c.hosted.base_url = server.url(provider)
  c.data.test_problems, c.hosted.n = problems, n
  return c


@PROVIDERS
def test_a_completion_and_what_was_sent(provider):
  with Fake(right=1.0) as server:
    done = _call(server, provider)
  (body,), (heads,) = server.bodies, server.heads
  heads = {name.lower(): value for name, value in heads.items()}
  assert done.text.endswith('#408') and done.stopped and done.model == 'm-1'
  assert (done.input_tokens, done.output_tokens, done.cached_tokens) == (50, 20, 10)
  assert done.request_id and 0 < done.latency < 5
  assert body['model'] == 'm' and body['temperature'] == 0.5 and body['max_tokens'] == 77
  assert body['messages'][-1] == {'role': 'user', 'content': ASK.prompt}
  if provider == 'anthropic':
    assert body['system'] == 'be brief'
  else:
    assert body['messages'][0] == {'role': 'system', 'content': 'be brief'}
  assert KEY in (heads.get('x-api-key'), heads.get('authorization', '').removeprefix('Bearer '))


@PROVIDERS
def test_an_answer_that_is_cut_off_or_empty(provider):
  with Fake(['truncate', 'empty']) as server:
    cut, empty = _call(server, provider), _call(server, provider)
  assert not cut.stopped and cut.output_tokens == 77
  assert cut.finish == {'anthropic': 'max_tokens', 'openai': 'length'}[provider]
  assert empty.text == '' and empty.stopped


@PROVIDERS
@pytest.mark.parametrize(
  'do, says, billed',
  [
    ('500', '500: told to answer 500', False),
    ('429', '429: told to answer 429', False),
    ('not json', 'not of the protocol', True),
    ('malformed', 'not of the protocol', True),
    ('cut', 'no connection', False),
    ('stall', 'no answer in 0.3 s', True),
  ],
)
def test_what_may_pass_is_transient_and_is_not_retried_below_us(provider, do, says, billed):
  with Fake([do]) as server, pytest.raises(Transient, match=says) as raised:
    _call(server, provider, timeout=0.3 if do == 'stall' else 5.0)
  assert server.requests == 1 and raised.value.billed == billed
  assert raised.value.after == (0.2 if do == '429' else None)
  assert KEY not in str(raised.value) and raised.value.__cause__ is None


@PROVIDERS
@pytest.mark.parametrize(
  'do, says', [('401', 'check .*_API_KEY'), ('400', 'change'), ('404', 'na')]
)
def test_what_does_not_pass_is_one_line_without_the_key(provider, do, says):
  with Fake([do]) as server, pytest.raises(BadInput, match=f'm at .*: {do}: .*{says}') as raised:
    _call(server, provider)
  assert KEY not in str(raised.value) and '[key]' in str(raised.value)
  assert '\n' not in str(raised.value) and server.requests == 1


def test_no_server_at_all():
  with Fake() as server:
    pass
  with pytest.raises(Transient, match='no connection'):
    _call(server, 'openai')


@PROVIDERS
def test_a_study_through_every_kind_of_trouble(provider, tmp_path, capfd):
  script = ['500', '429', 'malformed', 'not json', 'stall', 'cut', 'truncate', 'ok', '500', 'empty']
  with Fake(script, latency=0.02) as server:
    c = _config(server, provider)
    c.judge.provider, c.judge.model, c.judge.base_url = provider, 'j', server.url(provider)
    c.hosted.timeout, c.hosted.concurrency = 0.5, 3
    study.run(c, tmp_path)
  assert server.peak <= 3
  (stage,) = study.expand(c)
  done = json.loads((tmp_path / 'stages' / stage.id / 'done.json').read_text())
  assert done['account']['retries'] == 7 and done['account']['waits'] == 1
  answered = 16 - 2  # one was cut off, one was empty
  assert done['account']['completions'] == 16 + answered
  assert server.requests == 16 + answered + 7
  said = capfd.readouterr()
  assert KEY not in said.out + said.err
  for path in (p for p in tmp_path.rglob('*') if p.is_file()):
    assert KEY.encode() not in path.read_bytes(), path


def test_the_pause_that_a_server_asks_for_is_kept(tmp_path):
  with Fake(['429']) as server:
    server.retry_after = '1'
    c = _config(server, 'openai', problems=1, n=3)
    c.hosted.concurrency = 1
    study.run(c, tmp_path)
  assert server.times[1] - server.times[0] >= 1.0 and server.requests == 4


def test_a_run_that_is_killed_goes_on_with_the_rest_alone(tmp_path):
  with Fake(latency=0.05) as server:
    command = [
      sys.executable, 'run.py', '--config=experiments/api_best_of_n.py:openai/m,smoke',
      f'--workdir={tmp_path}/w', f'--config.hosted.base_url={server.url("openai")}',
      '--config.hosted.n=16', '--config.hosted.concurrency=2',
    ]  # fmt: skip
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'OPENAI_API_KEY': KEY}
    first = subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    deadline = time.monotonic() + 120
    while server.requests < 20 and time.monotonic() < deadline:
      time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    sent = server.requests
    assert 20 <= sent < 40
    (path,) = (tmp_path / 'w' / 'hosted').iterdir()
    stored = len(store.read(path))
    assert sent - 4 <= stored <= sent  # what is lost was under way
    second = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    assert server.requests - sent == 64 - stored
    assert len(store.read(path)) == 64
  assert 'majority vote of 16' in second.stdout and KEY not in second.stdout + second.stderr
  for file in (p for p in tmp_path.rglob('*') if p.is_file()):
    assert KEY.encode() not in file.read_bytes(), file


def test_a_signal_to_stop_keeps_what_is_under_way(tmp_path):
  with Fake(latency=0.05) as server:
    command = [
      sys.executable, 'run.py', '--config=experiments/api_best_of_n.py:anthropic/m,smoke',
      f'--workdir={tmp_path}/w', f'--config.hosted.base_url={server.url("anthropic")}',
      '--config.hosted.n=64', '--config.hosted.concurrency=2',
    ]  # fmt: skip
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'ANTHROPIC_API_KEY': KEY}
    run = subprocess.Popen(
      command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while server.requests < 10 and time.monotonic() < deadline:
      time.sleep(0.01)
    run.send_signal(signal.SIGTERM)
    _, said = run.communicate(timeout=60)
  assert run.returncode == 75 and 'run the same command to go on' in said
  (path,) = (tmp_path / 'w' / 'hosted').iterdir()
  assert len(store.read(path)) == server.requests < 256


def test_both_tables_of_requirements_name_the_packages():
  for name in ('requirements-hosted.txt', 'requirements-peers.txt'):
    text = (ROOT / name).read_text()
    assert 'anthropic>=' in text and 'openai>=' in text


def test_a_refused_key_is_said_by_the_door_in_one_line(tmp_path):
  with Fake() as server:
    server.always = '401'
    command = [
      sys.executable, 'run.py', '--config=experiments/api_best_of_n.py:openai/m,smoke',
      f'--workdir={tmp_path}/w', f'--config.hosted.base_url={server.url("openai")}',
    ]  # fmt: skip
    environment = os.environ | {'JAX_PLATFORMS': 'cpu', 'OPENAI_API_KEY': KEY}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
  assert run.returncode == 2 and run.stderr.count('\n') == 1, run.stderr
  assert 'check OPENAI_API_KEY' in run.stderr and KEY not in run.stderr + run.stdout
  assert hosted.most(study.expand(_config(server, 'openai'))[0].recipe)[0] == 16
