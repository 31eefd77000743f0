"""The one primitive of all searches: continuations of token prefixes, from the sampler.

Prefixes are run in blocks of few compiled shapes: a prefix is padded to a width that is a power of
two, a block is filled up with dummies, and what differs within it (limits, first sample) is data.
The noise of a sample hangs on the seed, the prefix's tokens, a salt and the sample's index alone,
so what a prefix says does not depend on what else is asked for.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from scaling import compute, processes, sample_step, sharding, stops, train_step
from scaling.data.vocab import Vocab
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics
from scaling.truncation import WHOLE, Truncation

NARROWEST = 16  # columns
BLOCK_ROWS = 64  # rows that decode, or are weighed, at a time


class Drawn(NamedTuple):
  """A continuation. Its last token is the one that it stopped at."""

  tokens: list[int]
  logprobs: list[float]  # the policy's own, at temperature 1
  stopped: bool  # by the stop token or a stop string; False: cut at its limit


class Thinking(NamedTuple):
  """Bounds on the tokens before the end-of-thinking token (2501.19393)."""

  least: int  # before so many, neither it nor the end is allowed
  most: int  # after so many it is forced
  mark: int  # the token


class Generator(NamedTuple):
  """What searches are made with; see `make_generator`."""

  draw: Callable
  weigh: Callable
  spent: Callable[[], dict]  # the executed FLOPs since it was last asked, as a ledger
  programs: Callable[[], int]  # how many programs were needed so far


def width(length: int) -> int:
  """Columns that a prefix of this length is padded to."""
  return max(NARROWEST, 1 << (length - 1).bit_length())


def _hash(salt: str, tokens: Sequence[int]) -> np.ndarray:
  text = f'{salt}|'.encode() + np.asarray(tokens, '<i4').tobytes()
  return np.frombuffer(hashlib.sha256(text).digest()[:8], '<u4')


def _each(value, count: int) -> list:
  return list(value) if isinstance(value, (list, tuple)) else [value] * count


def make_generator(
  cfg: transformer.ModelConfig,
  params: dict,
  vocab: Vocab,
  mesh: Mesh,
  how: Mechanics,
  key: jax.Array,
  *,
  temperature: float,
  response_tokens: int,
  row_tokens: int,
  block_rows: int = BLOCK_ROWS,
  truncation: Truncation = WHOLE,
) -> Generator:
  """A Generator of one model.

  key: typed, of the stage; response_tokens: the most that a continuation may have; row_tokens: the
  positions that were trained; block_rows: rows that decode at a time, about: what the mesh splits;
  truncation: of what is drawn from.

  Its functions:

  draw(prefixes, n=1, limit=None, ends=(), salt='', thinking=None) -> for each prefix, a list of n
  Drawn. prefixes: lists of ids. n, limit (the most tokens, response_tokens if None) and salt may be
  lists with a value for each. Where n is one number its samples share one prefill, in powers of
  two. ends: strings at which a continuation stops, beside the stop token. A prefix that comes again
  in the same call, with the same salt, goes on with the next samples of the first.

  weigh(prefixes, texts) -> log-probability of each text (a list of ids) after its prefix.

  BadInput: a prefix that is empty, or that with its limit goes beyond row_tokens; n < 1.
  ArithmeticError: log-probs that are not finite.
  """
  ways = mesh.shape['data'] * mesh.shape['fsdp']
  block_rows = -(-block_rows // ways) * ways
  single = how._replace(microbatches=1)
  used, executed, tables = set(), [compute.empty()], {}

  def spend(ledger: dict) -> None:
    executed[0] = compute.add(executed[0], ledger | {'model': compute.empty()['model']})

  def check(prefix, more: int) -> None:
    if not prefix:
      raise BadInput('a prefix to continue is empty: it needs at least one token')
    if len(prefix) + more > row_tokens:
      raise BadInput(
        f'a prefix of {len(prefix)} tokens with {more} to follow, and config.data.row_tokens is '
        f'{row_tokens}, beyond which no position was trained: raise it, or ask for less'
      )

  def draw(prefixes, n=1, limit=None, ends=(), salt='', thinking: Thinking | None = None):
    count = len(prefixes)
    limits = [response_tokens if x is None else x for x in _each(limit, count)]
    salts, ns = _each(salt, count), _each(n, count)
    for prefix, more, wanted in zip(prefixes, limits, ns, strict=True):
      check(prefix, more)
      if wanted < 1:
        raise BadInput(f'{wanted} samples of a prefix: ask for at least 1')
    S = 1
    if isinstance(n, int):
      S = min(n & -n, 1 << (block_rows.bit_length() - 1))
    jobs, begun = [], {}  # a job: S samples of one prefix, from `first` on
    for i, (prefix, wanted) in enumerate(zip(prefixes, ns, strict=True)):
      known = salts[i], tuple(prefix)
      first = begun.get(known, 0)
      begun[known] = first + wanted
      jobs += [(width(len(prefix)), i, first + s) for s in range(0, wanted, S)]
    found = [[] for _ in prefixes]
    for columns in sorted({job[0] for job in jobs}):
      same = [job for job in jobs if job[0] == columns]
      P = -(-(block_rows // S) // ways) * ways
      for at in range(0, len(same), P):
        part = [(i, first) for _, i, first in same[at : at + P]]
        drawn = block(P, S, columns, part, prefixes, salts, limits, ends, thinking)
        for p, (i, _) in enumerate(part):
          for s in range(S):
            length = int(drawn.lengths[p, s])
            tokens = drawn.tokens[p, s, :length].tolist()
            logprobs = drawn.logprobs[p, s, :length].tolist()
            found[i].append(Drawn(tokens, logprobs, bool(drawn.stopped[p, s])))
    return found

  def block(P, S, columns, part, prefixes, salts, limits, ends, thinking):
    """Samples, host arrays, of one block: of the prefixes that `part` names, and dummies."""
    shape = sample_step.SampleShape(P, S, S, columns, response_tokens)
    tokens = np.zeros((P, columns), np.int32)
    lengths, most, first = np.ones(P, np.int32), np.ones(P, np.int32), np.zeros((P, 1), np.int32)
    hashes = np.zeros((P, 2), np.uint32)
    for p, (i, start) in enumerate(part):
      tokens[p, : len(prefixes[i])] = prefixes[i]
      lengths[p], most[p], first[p] = len(prefixes[i]), limits[i], start
      hashes[p] = _hash(salts[i], prefixes[i])
    if ends not in tables:
      tables[ends] = stops.table(vocab, [vocab.stop], ends, 'a step of a search')
    table, of = tables[ends], lambda value: np.full(P, value, np.int32)
    if thinking is None:
      bounds = sample_step.no_limits(shape)._replace(response=most)
    else:
      bounds = sample_step.Limits(
        most, of(thinking.least), of(thinking.most), np.int32(thinking.mark)
      )
    used.add((shape, len(table), thinking is None))
    sample = sample_step.make_sampler(cfg, shape, mesh, how, truncation, thinking is not None)
    asked = sharding.spread(sharding.rows(mesh), (tokens, lengths, hashes))
    drawn = sample(params, *asked, key, 0, first, temperature, table, bounds)
    drawn = processes.gather(drawn)
    if not np.isfinite(drawn.logprobs).all():
      raise ArithmeticError('log-probs of a continuation')
    spend(
      compute.generate(
        cfg, lengths, drawn.lengths, columns, sample_step.windows(shape), drawn.steps, S
      )
    )
    return drawn

  def weigh(prefixes, texts) -> list[float]:
    for prefix, text in zip(prefixes, texts, strict=True):
      check(prefix, len(text))
    sizes = [width(len(prefix) + len(text)) for prefix, text in zip(prefixes, texts, strict=True)]
    found = [0.0] * len(prefixes)
    score = train_step.make_score(cfg, mesh, single)
    for T in sorted(set(sizes)):
      same = [i for i, size in enumerate(sizes) if size == T]
      for at in range(0, len(same), block_rows):
        part = same[at : at + block_rows]
        tokens = np.zeros((block_rows, T), np.int32)
        real = np.zeros((block_rows, T), np.int32)
        for row, i in enumerate(part):
          whole = [*prefixes[i], *texts[i]]
          tokens[row, : len(whole)], real[row, : len(whole)] = whole, 1
        positions = np.ascontiguousarray(np.broadcast_to(np.arange(T, dtype=np.int32), real.shape))
        batch = {'tokens': tokens, 'positions': positions, 'segment_ids': real}
        batch = sharding.spread(sharding.batch(mesh), batch)
        logp = processes.gather(score(params, batch, np.float32(1.0)))
        if not np.isfinite(logp[: len(part)]).all():
          raise ArithmeticError('log-probs of a verdict')
        for row, i in enumerate(part):
          start = len(prefixes[i])
          found[i] = float(logp[row, start : start + len(texts[i])].sum())
        used.add(('weigh', T))
        spend(compute.score(cfg, 0, 0, block_rows, T, 'prefill'))
    return found

  def spent() -> dict:
    ledger, executed[0] = executed[0], compute.empty()
    return ledger

  return Generator(draw, weigh, spent, lambda: len(used))
