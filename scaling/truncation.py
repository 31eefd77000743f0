"""Truncated sampling: which tokens may be drawn at all, by top-k, top-p and min-p."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from scaling.errors import BadInput


class Truncation(NamedTuple):
  """What is drawn from: of the distribution at the temperature, the tokens that pass all of these.

  Each is applied to what the one before left, renormalised. Tokens as likely as the last one that
  is kept are kept too, and so is the most likely one.
  """

  top_k: int = 0  # the k most likely; 0: all
  top_p: float = 1.0  # the fewest that have this probability together (1904.09751)
  min_p: float = 0.0  # those at least this part of the greatest probability (2407.01082)


WHOLE = Truncation()


def check_truncation(truncation: Truncation, key: str = 'config.sample') -> None:
  """BadInput, naming the field of the config, for one that is outside its range."""
  for field, fits, words in (
    ('top_k', truncation.top_k >= 0, 'at least 0 (0: all tokens)'),
    ('top_p', 0 < truncation.top_p <= 1, 'above 0 and at most 1 (1: all tokens)'),
    ('min_p', 0 <= truncation.min_p <= 1, 'in [0, 1] (0: all tokens)'),
  ):
    if not fits:
      raise BadInput(f'{key}.{field} is {getattr(truncation, field)}: it must be {words}')


def truncate(scaled, truncation: Truncation):
  """Logits [B, V] with -inf where `Truncation` does not let a token through."""
  V = scaled.shape[-1]
  if 0 < truncation.top_k < V:
    kth = jax.lax.top_k(scaled, truncation.top_k)[0][:, -1:]
    scaled = jnp.where(scaled >= kth, scaled, -jnp.inf)
  if truncation.top_p < 1:
    ordered = -jnp.sort(-scaled, axis=-1)
    before = jnp.cumsum(jax.nn.softmax(ordered, axis=-1), axis=-1)
    before = jnp.pad(before[:, :-1], ((0, 0), (1, 0)))
    lowest = jnp.min(jnp.where(before < truncation.top_p, ordered, jnp.inf), axis=-1, keepdims=True)
    scaled = jnp.where(scaled >= lowest, scaled, -jnp.inf)
  if truncation.min_p > 0:
    lowest = jnp.max(scaled, axis=-1, keepdims=True) + np.log(truncation.min_p)
    scaled = jnp.where(scaled >= lowest, scaled, -jnp.inf)
  return scaled
