"""Many completions: bounded concurrency, retries, a cap on what is spent, and the account of it."""

import asyncio
import concurrent.futures
import dataclasses
import random
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import NamedTuple

from scaling.hosted import client
from scaling.hosted.client import Ask, Completion, GaveUp, Transient

STUCK = 3  # requests that gave up with none answered between: the server is taken to be down
GRACE = 20.0  # seconds that answers under way are waited for after a signal to stop


class Prices(NamedTuple):
  """Money per million tokens."""

  input: float
  output: float
  cached: float | None  # of input tokens read from a cache; None: as other input

  def money(self, input_tokens, output_tokens, cached_tokens=0):
    """What these tokens cost; the counts may be arrays."""
    cached = self.input if self.cached is None else self.cached
    fresh = input_tokens - cached_tokens
    return (fresh * self.input + cached_tokens * cached + output_tokens * self.output) / 1e6


class Limits(NamedTuple):
  """How calls are made: config.hosted's fields of these names. A cap of 0 is none."""

  concurrency: int
  timeout: float
  retries: int
  cap_tokens: int
  cap_money: float


@dataclasses.dataclass
class Account:
  """What was used. `held_*`: what requests under way may still use, at the most."""

  completions: int = 0
  retries: int = 0
  waits: int = 0  # retries that a server asked for, by 429
  failures: int = 0  # requests that failed at every try
  tokens: int = 0  # input and output
  money: float = 0.0
  lost_tokens: int = 0  # at the most: of calls that may be billed and brought no answer
  lost_money: float = 0.0
  held_tokens: int = 0
  held_money: float = 0.0

  def over(self, limits: Limits, tokens: int, money: float) -> str | None:
    """The cap that so much more could break, as a config key, or None."""
    after = self.tokens + self.lost_tokens + self.held_tokens + tokens
    if limits.cap_tokens and after > limits.cap_tokens:
      return 'cap_tokens'
    after = self.money + self.lost_money + self.held_money + money
    return 'cap_money' if limits.cap_money and after > limits.cap_money else None

  def said(self) -> str:
    """'12.3k tokens, 0.04 money, 3 retries'."""
    parts = [f'{self.tokens:,} tokens'] + [f'{self.money:.4g} in money'] * (self.money > 0)
    parts += [f'{self.retries} retries'] * (self.retries > 0)
    return ', '.join(parts)


class Ended(NamedTuple):
  """Why a draw ended with some of it missing."""

  cap: str | None  # the config key of the cap that was met
  failed: str | None  # the last error of a request that gave up
  told: bool  # it was told to stop


def most_input(ask: Ask) -> int:
  """A bound on the input tokens of a request, not sharp: a token for every two bytes, and 64."""
  return 64 + len((ask.system + ask.prompt).encode()) // 2


async def draw(
  asks: Iterable[tuple[object, Ask]],
  call: client.Call,
  limits: Limits,
  prices: Prices,
  account: Account,
  keep: Callable[[object, Completion], None],
  told: Callable[[], bool] = lambda: False,
) -> Ended:
  """Completes all asks, (key, Ask) pairs, with at most `limits.concurrency` under way.

  keep(key, completion) is called as each arrives. A request is tried 1 + limits.retries times, each
  time after a longer pause; where the server names the pause all wait for it. None is sent that
  could bring the account above a cap. Whatever ends it, those under way are waited for and kept.
  told: asked before each request; True ends it. What else a call or `keep` raises, BadInput say, is
  raised when the others under way are done.
  """
  todo, room = iter(asks), asyncio.Condition()
  end = {'cap': None, 'failed': None, 'told': False}
  state = {'gave_up': 0, 'under_way': 0, 'open_at': 0.0}  # open_at: no request is sent before it

  async def tried(ask: Ask, worst: tuple[int, float]) -> Completion:
    for attempt in range(limits.retries + 1):
      while (pause := state['open_at'] - time.monotonic()) > 0:
        await asyncio.sleep(pause)
      try:
        return await call(ask)
      except Transient as error:
        if error.billed:
          account.lost_tokens += worst[0]
          account.lost_money += worst[1]
        words, after = str(error), error.after
      if attempt == limits.retries or (after or 0) > client.PATIENCE or end['told']:
        break
      if account.over(limits, 0, 0.0):
        break
      account.retries += 1
      if after is not None:
        account.waits += 1
        state['open_at'] = max(state['open_at'], time.monotonic() + after)
      await asyncio.sleep(client.backoff(attempt, after, random.random()))
    raise GaveUp(words)

  async def next_one():
    """(key, ask, worst) of the next request, its worst cost held; None where there is none."""
    async with room:
      if end['cap'] or end['told'] or state['gave_up'] >= STUCK or 'bad' in end:
        return None
      if told():
        end['told'] = True
        return None
      found = next(todo, None)
      if found is None:
        return None
      key, ask = found
      tokens = most_input(ask) + ask.max_tokens
      money = prices.money(most_input(ask), ask.max_tokens)
      while cap := account.over(limits, tokens, money):
        if state['under_way'] == 0:
          end['cap'] = cap
        if end['cap'] or end['told'] or 'bad' in end:
          return None
        await room.wait()  # what is under way may cost less than was held for it
      account.held_tokens += tokens
      account.held_money += money
      state['under_way'] += 1
      return key, ask, (tokens, money)

  async def worker() -> None:
    while (got := await next_one()) is not None:
      key, ask, worst = got
      try:
        done = await tried(ask, worst)
        account.completions += 1
        account.tokens += done.input_tokens + done.output_tokens
        account.money += prices.money(done.input_tokens, done.output_tokens, done.cached_tokens)
        state['gave_up'] = 0
        keep(key, done)
      except GaveUp as error:
        account.failures += 1
        state['gave_up'] += 1
        end['failed'] = str(error)
      except Exception as error:  # BadInput, or what cannot be kept: nothing more is sent
        end['bad'] = error
      finally:
        async with room:
          account.held_tokens -= worst[0]
          account.held_money -= worst[1]
          state['under_way'] -= 1
          room.notify_all()

  async def watch(workers) -> None:
    while not told():
      await asyncio.sleep(0.2)
    end['told'] = True
    await asyncio.sleep(GRACE)
    for one in workers:
      one.cancel()

  workers = [asyncio.ensure_future(worker()) for _ in range(limits.concurrency)]
  watcher = asyncio.ensure_future(watch(workers))
  try:
    await asyncio.gather(*workers, return_exceptions=True)
  finally:
    for task in (watcher, *workers):
      task.cancel()
    await asyncio.gather(watcher, *workers, return_exceptions=True)
  if 'bad' in end:
    raise end['bad']
  return Ended(**end)


def run(work: Coroutine):
  """The result of a coroutine, in a notebook too, where a loop is running already."""
  try:
    asyncio.get_running_loop()
  except RuntimeError:
    return asyncio.run(work)
  with concurrent.futures.ThreadPoolExecutor(1) as pool:
    return pool.submit(asyncio.run, work).result()
