"""Teachers of on-policy distillation: the log-probs that a teacher gives the student's own tokens.

    teacher_logp(params, batch) -> float32 [B, T], aligned with batch['tokens'], 0 off the responses

batch: of rollouts.assemble, its `mask` of response tokens included; params: the student's. From
log pi_student - log pi_teacher of each drawn token, a one-sample estimate of the per-token reverse
KL (2306.13649; MiniLLM, 2306.08543), comes the token's advantage.

`of_params`: the teacher is another model, of any size, with the same vocabulary
(`stages.teachers` loads one). `of_self`: it is the student itself, shown its attempt and a critique
of it before the same response tokens, so that what the critique says is credited to the tokens that
it speaks of; `critiques` makes what it reads.

Axes: B rows, T columns, C columns of a critique.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import Mesh

from scaling import compute, processes, sharding, train_step
from scaling.data import attempts
from scaling.data.batches import Problem
from scaling.data.vocab import Vocab
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.model.transformer import Mechanics

READ = ('tokens', 'positions', 'segment_ids')


class Teacher(NamedTuple):
  logp: Callable  # (params, batch) -> float32 [B, T]
  cost: Callable  # (batch) -> the ledger of one call, of kind reference


def of_params(
  cfg: transformer.ModelConfig,
  own: dict,
  mesh: Mesh,
  how: Mechanics,
  temperature: float = 1.0,
) -> Teacher:
  """The teacher with these parameters; the student's are not looked at.

  temperature: that of sampling, by which the student's own log-probs are scored.
  """
  score = train_step.make_score(cfg, mesh, how)

  def logp(params, batch):
    del params
    rows = sharding.spread(sharding.batch(mesh), {name: batch[name] for name in READ})
    return processes.gather(score(own, rows, np.float32(temperature))) * batch['mask']

  return Teacher(logp, lambda batch: _cost(cfg, batch))


def _cost(cfg: transformer.ModelConfig, rows: dict) -> dict:
  real = rows['segment_ids'] > 0
  context = int((rows['positions'][real] + 1).sum())
  return compute.score(cfg, int(real.sum()), context, *real.shape)


def critiques(
  vocab: Vocab,
  style: str,
  what: str,
  problems: Sequence[Problem],
  texts: Sequence[Sequence[str]],
  correct: np.ndarray,
  room: int,
) -> dict:
  """{context [B, C] int32, context_lengths [B]}: a prompt with a critique for each response.

  what: one of attempts.CRITIQUES; problems: P; texts: P lists of G responses; correct: bool
  [P, G], the verdicts that are told; room: the most tokens of a context. The end of an attempt that
  takes more is left out; BadInput where the rest alone does.
  """
  found = []
  for problem, responses, verdicts in zip(problems, texts, correct, strict=True):
    for text, right in zip(responses, verdicts, strict=True):
      write = lambda attempt, p=problem, r=bool(right): vocab.prompt(
        attempts.critique(style, p, attempt, r, what)
      )
      found.append(_showing(write, text, room, problem.id))
  lengths = np.array([len(ids) for ids in found], np.int32)
  context = np.zeros((len(found), int(lengths.max())), np.int32)
  for row, ids in enumerate(found):
    context[row, : len(ids)] = ids
  return {'context': context, 'context_lengths': lengths}


def _showing(write: Callable, attempt: str, room: int, problem: str) -> list[int]:
  ids = write(attempt)
  while attempt and len(ids) > room:
    attempt = attempt[:-1]
    ids = write(attempt)
  if len(ids) > room:
    raise BadInput(
      f'problem {problem}: its critique takes {len(ids)} tokens and there is room for {room} '
      'before a response: raise config.data.row_tokens'
    )
  return ids


def behind(batch: dict, columns: int) -> dict:
  """The responses of a batch, each behind its `context`: rows of so many columns, and their mask.

  The tokens are the same ids, so a mask of either takes them out in the same order.
  """
  lengths, responses = batch['context_lengths'], batch['mask'].sum(axis=1)
  place = np.arange(columns)[None]
  mask = (place >= lengths[:, None]) & (place < (lengths + responses)[:, None])
  tokens = np.zeros(mask.shape, np.int32)
  width = min(columns, batch['context'].shape[1])
  tokens[:, :width] = batch['context'][:, :width]
  tokens[mask] = batch['tokens'][batch['mask']]
  real = place < (lengths + responses)[:, None]
  return {
    'tokens': tokens,
    'positions': np.broadcast_to(place, tokens.shape).astype(np.int32),
    'segment_ids': real.astype(np.int32),
    'mask': mask,
  }


def of_self(
  cfg: transformer.ModelConfig,
  mesh: Mesh,
  how: Mechanics,
  row_tokens: int,
  temperature: float = 1.0,
) -> Teacher:
  """The student as its own teacher: batch has what `critiques` makes, besides.

  Its rows are of row_tokens columns, so `room` of the critiques is row_tokens less the longest
  response.
  """
  score = train_step.make_score(cfg, mesh, how)

  def logp(params, batch):
    rows = behind(batch, row_tokens)
    read = sharding.spread(sharding.batch(mesh), {name: rows[name] for name in READ})
    scored = processes.gather(score(params, read, np.float32(temperature)))
    found = np.zeros(batch['tokens'].shape, np.float32)
    found[batch['mask']] = scored[rows['mask']]
    return found

  return Teacher(logp, lambda batch: _cost(cfg, behind(batch, row_tokens)))
