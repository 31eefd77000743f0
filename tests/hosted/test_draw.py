"""Concurrency, retries, caps and the account, with a model that is a function of this file."""

import asyncio
import time

import pytest

from scaling.errors import BadInput
from scaling.hosted import client, draw
from scaling.hosted.client import Ask, Completion, Transient

PRICES = draw.Prices(input=3.0, output=15.0, cached=0.3)


def _limits(**changed):
  usual = dict(concurrency=3, timeout=5.0, retries=2, cap_tokens=0, cap_money=0.0)
  return draw.Limits(**usual | changed)


def _asks(count, max_tokens=100):
  return [((f'p{i}', 0), Ask(f'question {i}', '', 1.0, max_tokens)) for i in range(count)]


def _completion(**changed):
  usual = dict(
    text='#1', stopped=True, finish='stop', input_tokens=50, output_tokens=20, cached_tokens=10,
    model='m', request_id='r', latency=0.1,
  )  # fmt: skip
  return Completion(**usual | changed)


def _draw(asks, call, limits, account=None, keep=None, **more):
  kept, account = {}, account or draw.Account()
  ended = draw.run(draw.draw(asks, call, limits, PRICES, account, keep or kept.__setitem__, **more))
  return ended, kept, account


@pytest.fixture(autouse=True)
def fast(monkeypatch):
  monkeypatch.setattr(client, 'FIRST', 0.01)


def test_no_more_are_under_way_than_the_bound_and_all_are_kept():
  now, peak = 0, 0

  async def call(ask):
    nonlocal now, peak
    now, peak = now + 1, max(peak, now + 1)
    await asyncio.sleep(0.01)
    now -= 1
    return _completion(text=ask.prompt)

  ended, kept, account = _draw(_asks(20), call, _limits())
  assert ended == draw.Ended(None, None, False) and peak == 3
  assert kept == {key: _completion(text=ask.prompt) for key, ask in _asks(20)}
  assert account.completions == 20 and account.tokens == 20 * 70 and account.retries == 0
  assert account.money == pytest.approx(20 * (40 * 3 + 10 * 0.3 + 20 * 15) / 1e6)
  assert account.held_tokens == 0 and account.held_money == pytest.approx(0)


def test_what_fails_is_tried_again_and_counted():
  tries = {}

  async def call(ask):
    tries[ask.prompt] = tries.get(ask.prompt, 0) + 1
    if tries[ask.prompt] <= 2:
      raise Transient('500: no', billed=tries[ask.prompt] == 1)
    return _completion()

  ended, kept, account = _draw(_asks(4), call, _limits())
  assert len(kept) == 4 and ended.failed is None
  assert account.retries == 8 and account.failures == 0
  each = draw.most_input(_asks(1)[0][1]) + 100
  assert account.lost_tokens == 4 * each and account.tokens == 4 * 70


def test_all_wait_when_the_server_says_how_long():
  times = []

  async def call(ask):
    times.append(time.monotonic())
    if len(times) == 1:
      raise Transient('429: wait', after=0.3)
    await asyncio.sleep(0.02)
    return _completion()

  _, kept, account = _draw(_asks(9), call, _limits())
  assert len(kept) == 9 and account.waits == 1
  assert len(times) == 10
  assert min(times[3:]) - times[0] >= 0.3  # but for the three that were under way


def test_one_that_always_fails_is_left_out_and_the_rest_goes_on():
  async def call(ask):
    if ask.prompt == 'question 2':
      raise Transient('500: always')
    return _completion()

  ended, kept, account = _draw(_asks(8), call, _limits())
  assert ended.failed == '500: always' and len(kept) == 7 and account.failures == 1


def test_a_server_that_is_down_is_not_asked_for_everything():
  asked = 0

  async def call(ask):
    nonlocal asked
    asked += 1
    raise Transient('no connection')

  ended, kept, _ = _draw(_asks(50), call, _limits(retries=1))
  assert ended.failed == 'no connection' and not kept
  assert asked <= 2 * (draw.STUCK + 2)


def test_a_pause_beyond_patience_is_not_waited_for():
  async def call(ask):
    raise Transient('429: tomorrow', after=86_400.0)

  ended, _, account = _draw(_asks(9), call, _limits())  # not a day
  assert ended.failed == '429: tomorrow' and account.retries == 0


@pytest.mark.parametrize('caps', [{'cap_tokens': 1000}, {'cap_money': 0.006}])
def test_a_cap_is_never_passed_and_what_was_drawn_is_kept(caps):
  async def call(ask):
    await asyncio.sleep(0.01)
    return _completion(input_tokens=60, output_tokens=100, cached_tokens=0)

  ended, kept, account = _draw(_asks(50), call, _limits(concurrency=8, **caps))
  assert ended.cap == next(iter(caps))
  assert account.tokens <= caps.get('cap_tokens', 1e9)
  assert account.money <= caps.get('cap_money', 1e9)
  # and little of it is left: not one more at its greatest cost
  one = draw.most_input(_asks(1)[0][1]) + 100
  assert len(kept) == (1000 - one) // 160 + 1 if 'cap_tokens' in caps else len(kept) >= 2


def test_a_cap_counts_what_was_used_before():
  async def call(ask):
    raise AssertionError('nothing may be sent')

  ended, kept, _ = _draw(_asks(3), call, _limits(cap_tokens=1000), draw.Account(tokens=950))
  assert ended.cap == 'cap_tokens' and not kept


@pytest.mark.parametrize('error', [BadInput('401: no such key'), OSError('the disk is full')])
@pytest.mark.parametrize('place', ['call', 'keep'])
def test_what_cannot_be_mended_ends_it_once_those_under_way_are_kept(error, place):
  asked, kept = 0, {}

  async def call(ask):
    nonlocal asked
    asked += 1
    if ask.prompt == 'question 1' and place == 'call':
      await asyncio.sleep(0.005)
      raise error
    await asyncio.sleep(0.02)
    return _completion()

  def keep(key, done):
    if key[0] == 'p1':
      raise error
    kept[key] = done

  with pytest.raises(type(error), match=str(error)):
    _draw(_asks(50), call, _limits(), keep=keep)
  assert asked <= 5 and ('p0', 0) in kept and ('p2', 0) in kept


def test_told_to_stop_it_keeps_what_is_under_way():
  asked = 0

  async def call(ask):
    nonlocal asked
    asked += 1
    await asyncio.sleep(0.02)
    return _completion()

  ended, kept, _ = _draw(_asks(50), call, _limits(), told=lambda: asked >= 6)
  assert ended.told and 6 <= len(kept) == asked <= 8


def test_it_runs_where_a_loop_runs_already():
  async def call(ask):
    return _completion()

  async def notebook():
    return _draw(_asks(3), call, _limits())

  _, kept, _ = asyncio.run(notebook())
  assert len(kept) == 3


def test_money_of_cached_tokens_without_a_price_of_their_own():
  assert draw.Prices(2.0, 10.0, None).money(1000, 100, 400) == pytest.approx(3e-3)
  assert draw.Prices(2.0, 10.0, 0.0).money(1000, 100, 400) == pytest.approx(2.2e-3)
