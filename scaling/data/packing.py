"""Examples packed into rows of a fixed length, and the folder that a pool of rows lives in.

An example is a sequence of tokens (prompt, response, stop token) and stays whole. A row takes
examples in their order while it has room for two more of mean length, and then the two that fill it
best: one of the next few, and the longest left that fits beside it. It is closed when nothing left
fits. GSM8K fills 99 % of rows of 512. Packing the longest first fills no more, and puts examples of
one length together, so that a batch holds examples that are alike (docs/lab-log.md).

No TensorFlow, no JAX. Axes: N sequences, R rows, T tokens of a row.
"""

import bisect
import collections
import contextlib
import itertools
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from scaling.data import batches
from scaling.data.batches import Packed

WINDOW = 2**20  # tokens that are packed together, to bound memory
TRIES = 16  # examples, in their order, of which one may close a row


def plan(lengths: Sequence[int], row_tokens: int) -> list[list[int]]:
  """The numbers of the sequences of each row: next ones in order, then the two that fill it best.

  Raises ValueError for a length that is not in 1 ... row_tokens.
  """
  lengths = np.asarray(lengths, np.int64)
  if len(lengths) and not 1 <= lengths.min() <= lengths.max() <= row_tokens:
    raise ValueError(
      f'sequences of {lengths.min()} to {lengths.max()} tokens, rows of {row_tokens}'
    )
  two_more = 2.2 * lengths.mean() if len(lengths) else 0
  lengths = lengths.tolist()
  used = bytearray(len(lengths))
  order = collections.deque(range(len(lengths)))
  held: dict[int, list[int]] = {}  # length -> the sequences that have it, the first one last
  for number in reversed(order):
    held.setdefault(lengths[number], []).append(number)
  sizes = sorted(held)

  def following():
    """The first sequence left, or None."""
    while order and used[order[0]]:
      order.popleft()
    return order[0] if order else None

  def longest(room, beside=None):
    """The first of the longest sequences left that fit, or None; beside: the one that it is not."""
    for at in range(bisect.bisect_right(sizes, room) - 1, -1, -1):
      numbers = held[sizes[at]]
      while numbers and used[numbers[-1]]:
        numbers.pop()
      if not numbers:
        del sizes[at]
      for number in reversed(numbers):
        if number != beside and not used[number]:
          return number
    return None

  def closing(room):
    """The one or two sequences that fill a row's room best, of what was tried."""
    most, best = 0, ()
    left = (number for number in order if not used[number] and lengths[number] <= room)
    for number in itertools.islice(left, TRIES):
      other = longest(room - lengths[number], beside=number)
      pair = (number,) if other is None else (number, other)
      fills = sum(lengths[one] for one in pair)
      if fills > most:
        most, best = fills, pair
      if most == room:
        break
    return best

  def take(row, number):
    """The room that it takes in the row."""
    row.append(number)
    used[number] = True
    return lengths[number]

  found = []
  while (number := following()) is not None:
    row, room = [], row_tokens
    room -= take(row, number)
    while room > two_more and (number := following()) is not None and lengths[number] <= room:
      room -= take(row, number)
    for number in closing(room):
      room -= take(row, number)
    while (number := longest(room)) is not None:
      room -= take(row, number)
    found.append(row)
  return found


def rows(
  sequences: Sequence[np.ndarray],
  prompt_lengths: Sequence[int],
  row_tokens: int,
  every_token: bool = False,
  vocab_size: int = 2**16,
) -> dict[str, np.ndarray]:
  """N sequences (prompt, response, stop token) as the arrays [R, T] of `batches.Packed`.

  prompt_lengths: tokens of each that are its prompt, out of the loss unless `every_token`; the
  first token of a sequence, which nothing predicts, is out of it always. vocab_size decides how
  wide the tokens' type is. Rows come as `plan` has them. Raises ValueError as it does.
  """
  planned = plan([len(sequence) for sequence in sequences], row_tokens)
  shape = (len(planned), row_tokens)
  tokens = np.zeros(shape, np.uint16 if vocab_size <= 2**16 else np.uint32)
  positions, segment_ids = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
  loss_mask = np.zeros(shape, bool)
  counting = np.arange(row_tokens, dtype=np.uint16)
  for row, numbers in enumerate(planned):
    start = 0
    for segment, number in enumerate(numbers, 1):
      end = start + len(sequences[number])
      tokens[row, start:end] = sequences[number]
      positions[row, start:end] = counting[: end - start]
      segment_ids[row, start:end] = segment
      loss_mask[row, start + max(1, 0 if every_token else int(prompt_lengths[number])) : end] = True
      start = end
  return Packed(tokens, positions, segment_ids, loss_mask)._asdict()


def write(
  folder,
  examples: Iterable[tuple[np.ndarray, int]],
  row_tokens: int,
  every_token: bool = False,
  vocab_size: int = 2**16,
) -> dict[str, int]:
  """Packs examples (sequence, tokens of its prompt) into the folder of a pool, which it makes.

  The folder has what `batches.packed` and `batches.tally` read. Examples are taken one by one, and
  packed WINDOW tokens at a time, so memory does not grow with their number. Returns {'rows',
  'tokens', 'loss_tokens'}. Raises ValueError as `plan` does, and for no examples at all.
  """
  folder = pathlib.Path(folder)
  folder.mkdir()
  total, tallies = 0, []
  with contextlib.ExitStack() as stack:
    files = {
      name: stack.enter_context(open(folder / f'{name}.npy', 'wb')) for name in Packed._fields
    }
    for sequences, prompt_lengths in _windows(examples):
      packed = rows(sequences, prompt_lengths, row_tokens, every_token, vocab_size)
      tallies.append(batches.tallied(packed))
      for name, array in packed.items():
        if total == 0:
          _write_header(files[name], array.dtype, (0, row_tokens))
        array.tofile(files[name])
      total += len(tallies[-1])
    if total == 0:
      raise ValueError('no examples to pack')
    for name, file in files.items():  # NumPy leaves room in a header for more rows
      file.seek(0)
      _write_header(file, packed[name].dtype, (total, row_tokens))
  tally = np.concatenate(tallies)
  np.save(folder / batches.TALLY, tally)
  return {'rows': total, 'tokens': int(tally[:, 0].sum()), 'loss_tokens': int(tally[:, 2].sum())}


def _windows(examples: Iterable[tuple[np.ndarray, int]]):
  """Yields (sequences, prompt lengths) of WINDOW tokens, or a little more; then what is left."""
  sequences, prompt_lengths, tokens = [], [], 0
  for sequence, prompt_length in examples:
    sequences.append(sequence)
    prompt_lengths.append(prompt_length)
    tokens += len(sequence)
    if tokens >= WINDOW:
      yield sequences, prompt_lengths
      sequences, prompt_lengths, tokens = [], [], 0
  if sequences:
    yield sequences, prompt_lengths


def _write_header(file, dtype: np.dtype, shape: tuple[int, int]) -> None:
  header = {'descr': np.lib.format.dtype_to_descr(dtype), 'fortran_order': False, 'shape': shape}
  np.lib.format.write_array_header_1_0(file, header)
