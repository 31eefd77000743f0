"""One completion of a hosted model, by its provider's own SDK.

    anthropic   the Messages API, package `anthropic`, key in ANTHROPIC_API_KEY
    openai      chat completions, package `openai`, key in OPENAI_API_KEY; vLLM and many other
                servers speak it too (config.hosted.base_url)

A key is read from the environment when a client is made, and kept out of whatever is returned or
raised here: a server that echoes it in an error or an answer is echoed with '[key]' in its place.
"""

import asyncio
import contextlib
import email.utils
import importlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NamedTuple

from scaling.errors import BadInput

KEYS = {'anthropic': 'ANTHROPIC_API_KEY', 'openai': 'OPENAI_API_KEY'}
# Said here, so that no other variable of the environment decides which server is asked.
ADDRESSES = {'anthropic': 'https://api.anthropic.com', 'openai': 'https://api.openai.com/v1'}
STOPPED = ('end_turn', 'stop_sequence', 'stop')  # reasons of a response that came to its own end
AGAIN = (408, 409, 425, 429)  # statuses that pass by themselves, beside those from 500 on
HOPELESS = ('insufficient_quota', 'billing_not_active')  # codes of a 429 that does not
PATIENCE = 600.0  # seconds; a server that asks for more is not waited for
FIRST, LONGEST = 0.5, 60.0  # seconds of back-off


class Endpoint(NamedTuple):
  provider: str  # of KEYS
  model: str
  base_url: str  # '': the provider's own


class Ask(NamedTuple):
  """What is asked of a model."""

  prompt: str
  system: str  # '': none
  temperature: float
  max_tokens: int


class Completion(NamedTuple):
  """What it answered, in the provider's tokens."""

  text: str
  stopped: bool  # False: cut off, by max_tokens or by a filter
  finish: str  # the provider's word for it
  input_tokens: int  # cached ones counted
  output_tokens: int  # those of hidden reasoning counted
  cached_tokens: int  # input tokens that were read from a cache
  model: str  # as the answer names it
  request_id: str
  latency: float  # seconds of the call that succeeded


class Transient(Exception):
  """A call failed in a way that may pass. Its text says how.

  after: seconds that the server asked to wait, or None. billed: whether the call may have cost
  something all the same (it was cut off on this side, or its answer could not be read).
  """

  def __init__(self, words: str, after: float | None = None, billed: bool = False):
    super().__init__(words)
    self.after, self.billed = after, billed


class GaveUp(Exception):
  """A call failed at every try. Its text says how the last one did."""


def key_of(provider: str) -> str:
  """The key of a provider, from the environment. BadInput where there is none."""
  key = os.environ.get(KEYS[provider], '').strip()
  if not key:
    raise BadInput(
      f'{KEYS[provider]} is not set: export it before the run (a local server that asks for no key '
      'takes any value)'
    )
  return key


def sdk_of(provider: str):
  """The provider's package. BadInput where it is not installed."""
  try:
    return importlib.import_module(provider)
  except ImportError:
    raise BadInput(
      f'the package {provider!r} is not installed: pip install -r requirements-hosted.txt'
    ) from None


Call = Callable[[Ask], Awaitable[Completion]]


@contextlib.asynccontextmanager
async def connect(endpoint: Endpoint, timeout: float) -> AsyncIterator[Call]:
  """A function that makes one call, without retries.

  It raises Transient for what may pass: no connection, no answer within `timeout` seconds, a
  status of 408, 409, 425, 429 or 5xx, an answer that is not of the protocol; and BadInput for
  what does not: the key, the model's name or an argument is refused. BadInput here for a missing
  key or package.
  """
  provider, base_url = endpoint.provider, endpoint.base_url
  key, sdk = key_of(provider), sdk_of(provider)
  make = {'anthropic': 'AsyncAnthropic', 'openai': 'AsyncOpenAI'}[provider]
  client = getattr(sdk, make)(
    api_key=key, base_url=base_url or ADDRESSES[provider], max_retries=0, timeout=timeout
  )
  call = {'anthropic': _messages, 'openai': _chat}[provider]
  hide = lambda text: str(text).replace(key, '[key]')

  async def complete(ask: Ask) -> Completion:
    began = time.monotonic()
    try:
      found = await asyncio.wait_for(call(client, endpoint, ask), timeout)
    except (TimeoutError, sdk.APITimeoutError):
      raise Transient(f'no answer in {timeout:g} s', billed=True) from None
    except sdk.APIConnectionError as error:
      cause = error.__cause__ or error
      raise Transient(hide(f'no connection ({_line(cause) or type(cause).__name__})')) from None
    except sdk.APIStatusError as error:
      raise _refusal(error, endpoint, hide) from None
    except (sdk.APIError, json.JSONDecodeError, AttributeError, LookupError, TypeError, ValueError):
      raise Transient('the answer is not of the protocol', billed=True) from None
    text, request_id, named = hide(found['text']), hide(found['request_id']), hide(found['model'])
    found |= {'text': text, 'request_id': request_id, 'model': named}
    return Completion(**found, latency=time.monotonic() - began)

  async with client:
    yield complete


async def _messages(client, endpoint: Endpoint, ask: Ask) -> dict:
  """A call of Anthropic's Messages API."""
  system = {'system': ask.system} if ask.system else {}
  answer = await client.messages.create(
    model=endpoint.model,
    max_tokens=ask.max_tokens,
    messages=[{'role': 'user', 'content': ask.prompt}],
    extra_body={'temperature': ask.temperature},  # no argument of its own in newer versions
    **system,
  )
  usage = answer.usage
  cached = usage.cache_read_input_tokens or 0
  return dict(
    text=''.join(_text(block.text) for block in answer.content if block.type == 'text'),
    stopped=answer.stop_reason in STOPPED,
    finish=_text(answer.stop_reason),
    input_tokens=_count(usage.input_tokens) + cached + (usage.cache_creation_input_tokens or 0),
    output_tokens=_count(usage.output_tokens),
    cached_tokens=_count(cached),
    model=_text(answer.model),
    request_id=answer._request_id or answer.id or '',
  )


async def _chat(client, endpoint: Endpoint, ask: Ask) -> dict:
  """A call of OpenAI's chat completions."""
  system = [{'role': 'system', 'content': ask.system}] if ask.system else []
  # OpenAI's newer models refuse the old name of this limit, and other servers may not know the new.
  limit = 'max_tokens' if endpoint.base_url else 'max_completion_tokens'
  answer = await client.chat.completions.create(
    model=endpoint.model,
    messages=[*system, {'role': 'user', 'content': ask.prompt}],
    temperature=ask.temperature,
    **{limit: ask.max_tokens},
  )
  choice, usage = answer.choices[0], answer.usage
  details = getattr(usage, 'prompt_tokens_details', None)
  return dict(
    text=choice.message.content or '',  # None: reasoning used it all up, or a filter cut it
    stopped=choice.finish_reason in STOPPED,
    finish=_text(choice.finish_reason),
    input_tokens=_count(usage.prompt_tokens),
    output_tokens=_count(usage.completion_tokens),
    cached_tokens=_count(getattr(details, 'cached_tokens', None) or 0),
    model=_text(answer.model),
    request_id=answer._request_id or answer.id or '',
  )


def _text(value) -> str:
  """The value, which the SDK does not check. TypeError where it is no text."""
  if not isinstance(value, str):
    raise TypeError(value)
  return value


def _count(value) -> int:
  """Likewise a count of tokens."""
  if not isinstance(value, int) or isinstance(value, bool) or value < 0:
    raise TypeError(value)
  return value


def _line(words) -> str:
  """A text in one line, not too long."""
  return ' '.join(str(words).split())[:300]


def _refusal(error, endpoint: Endpoint, hide) -> Exception:
  """What to raise for a status of 4xx or 5xx."""
  status, headers = error.status_code, error.response.headers
  body = error.body if isinstance(error.body, dict) else {}
  said = body.get('error') if isinstance(body.get('error'), dict) else body
  words = hide(_line(said.get('message') or error.message or f'status {status}'))
  passes = status in AGAIN or status >= 500
  if said.get('code') in HOPELESS or headers.get('x-should-retry') == 'false':
    passes = False
  if passes:
    return Transient(f'{status}: {words}', retry_after(headers, time.time()))
  fix = {
    401: f'check {KEYS[endpoint.provider]}',
    403: f'check what {KEYS[endpoint.provider]} may do',
    404: 'check its name, config.hosted.provider and base_url',
    429: 'check the account',
  }.get(status, 'change what it refuses and run again')
  where = endpoint.base_url or ADDRESSES[endpoint.provider]
  return BadInput(f'{endpoint.model} at {where}: {status}: {words}; {fix}')


def retry_after(headers, now: float) -> float | None:
  """Seconds that a Retry-After header asks for: a number, or a date after `now` (Unix time)."""
  for name, scale in (('retry-after-ms', 1e-3), ('retry-after', 1.0)):
    value = headers.get(name)
    if value is None:
      continue
    try:
      seconds = float(value) * scale
    except ValueError:
      try:
        seconds = email.utils.parsedate_to_datetime(value).timestamp() - now
      except ValueError:
        continue
    if seconds == seconds:  # not NaN
      return max(seconds, 0.0)
  return None


def backoff(attempt: int, after: float | None, chance: float) -> float:
  """Seconds to wait after failed try `attempt` (from 0): FIRST x 2^attempt, LONGEST at most.

  Half of it is drawn by `chance` in [0, 1), so that many do not come back at once. A server that
  said how long is waited for that long, and then so long again.
  """
  return (after or 0.0) + min(FIRST * 2**attempt, LONGEST) * (0.5 + 0.5 * chance)
