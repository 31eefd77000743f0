"""What a query costs, in model FLOPs, with every cache kept: each token of the prompt is run once,
each token drawn once, and each token scored once, wherever in a tree it stands.

Executed FLOPs (a prefix prefilled again, padding) are the generator's: `generate.Generator.spent`.
"""

from typing import NamedTuple

from scaling import compute


class Cost(NamedTuple):
  """Of one query; costs add up, field by field."""

  samples: float = 0  # responses drawn to their end
  prefill_tokens: float = 0  # tokens of prompts, and of what is put between attempts
  decode_tokens: float = 0  # tokens drawn
  prefill_flops: float = 0.0
  decode_flops: float = 0.0
  scorer_flops: float = 0.0


def add(*costs: Cost) -> Cost:
  """The sum."""
  return Cost(*map(sum, zip(*costs, strict=True))) if costs else Cost()


def prefill(cfg, length: int, cached: int = 0) -> Cost:
  """Of a prefix of `length` tokens, the first `cached` of which were run before. One row of logits.

  The last token is run in any case: its logits are what is asked for.
  """
  new = length - min(cached, length - 1)
  context = compute.causal([length])[1] - compute.causal([length - new])[1]
  return Cost(prefill_tokens=new, prefill_flops=compute.forward_flops(cfg, new, context, 1))


def decode(cfg, prefix: int, lengths, resumed: bool = False) -> Cost:
  """Of continuations of these lengths, drawn after one prefix of `prefix` tokens.

  The first token comes of the prefix's logits and the last is not fed, so t tokens take t - 1
  passes, the j-th over prefix + j keys. resumed: the prefix ends with a token that was drawn and
  has not been fed yet, which takes one pass for all of them.
  """
  passes = [max(length - 1, 0) for length in lengths]
  context = sum(n * prefix + n * (n + 1) // 2 for n in passes)
  count = sum(passes)
  if resumed:
    count, context = count + 1, context + prefix
  return Cost(
    decode_tokens=sum(lengths), decode_flops=compute.forward_flops(cfg, count, context, count)
  )


def common(a: list[int], b: list[int]) -> int:
  """How many tokens two sequences begin with in common: what of a cache can be kept."""
  count = 0
  for x, y in zip(a, b):
    if x != y:
      break
    count += 1
  return count
