"""Keys, waits and answers of a hosted model, without its SDK."""

import email.utils
import importlib

import pytest

from scaling.errors import BadInput
from scaling.hosted import client


@pytest.mark.parametrize('provider, name', client.KEYS.items())
def test_a_missing_key_is_one_line_with_its_variable(monkeypatch, provider, name):
  for value in (None, '', '  '):
    monkeypatch.delenv(name, raising=False)
    if value is not None:
      monkeypatch.setenv(name, value)
    with pytest.raises(BadInput, match=f'^{name} is not set: export it') as raised:
      client.key_of(provider)
    assert '\n' not in str(raised.value)
  monkeypatch.setenv(name, ' sk-1\n')
  assert client.key_of(provider) == 'sk-1'


def test_a_missing_package_is_one_line_with_the_command(monkeypatch):
  def missing(name):
    raise ModuleNotFoundError(name)

  monkeypatch.setattr(importlib, 'import_module', missing)
  with pytest.raises(BadInput, match="'openai' is not installed: pip install -r requirements-ho"):
    client.sdk_of('openai')


@pytest.mark.parametrize(
  'heads, seconds',
  [
    ({}, None),
    ({'retry-after': '3'}, 3.0),
    ({'retry-after': '0.5'}, 0.5),
    ({'retry-after-ms': '250', 'retry-after': '9'}, 0.25),
    ({'retry-after': '-4'}, 0.0),
    ({'retry-after': 'soon'}, None),
    ({'retry-after': 'nan'}, None),
    ({'retry-after': email.utils.formatdate(1_000_007, usegmt=True)}, 7.0),
    ({'retry-after': email.utils.formatdate(999_000, usegmt=True)}, 0.0),
  ],
)
def test_retry_after(heads, seconds):
  assert client.retry_after(heads, now=1_000_000.0) == seconds


def test_backoff_doubles_to_a_bound_with_jitter_and_honours_the_server():
  for attempt, mean in ((0, 0.5), (1, 1.0), (3, 4.0), (20, client.LONGEST)):
    assert client.backoff(attempt, None, 0.0) == mean / 2
    assert client.backoff(attempt, None, 0.999) == pytest.approx(mean, rel=1e-3)
  assert 5.0 < client.backoff(0, 5.0, 0.0) < client.backoff(0, 5.0, 0.9) < 6.0
