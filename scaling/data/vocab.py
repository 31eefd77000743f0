"""Character vocabularies, as plain data.

Ids: 0 padding, 1 stop, 2 unknown, then the characters in order.
"""

import dataclasses
import functools
import string
from collections.abc import Iterable

PADDING, STOP, UNKNOWN = 0, 1, 2
SPECIAL = 3  # ids below this stand for no character


@dataclasses.dataclass(frozen=True)
class Vocab:
  """One token a character, or one a byte of UTF-8 where `characters` is None."""

  name: str
  characters: str | None

  @property
  def size(self) -> int:
    return SPECIAL + (256 if self.characters is None else len(self.characters))

  def encode(self, text: str) -> list[int]:
    """Ids of a text, no stop token; a character that is not in the vocabulary becomes UNKNOWN."""
    if self.characters is None:
      return [SPECIAL + byte for byte in text.encode('utf-8', 'replace')]
    table = _ids(self.characters)
    return [table.get(character, UNKNOWN) for character in text]

  def decode(self, ids: Iterable[int]) -> str:
    """The text up to the first stop token; padding is skipped, unknown reads as U+FFFD."""
    kept = []
    for i in ids:
      if i == STOP:
        break
      if i != PADDING:
        kept.append(int(i) - SPECIAL)
    if self.characters is None:
      parts = (bytes([i]) if i >= 0 else '\ufffd'.encode() for i in kept)
      return b''.join(parts).decode('utf-8', 'replace')
    return ''.join(self.characters[i] if i >= 0 else '\ufffd' for i in kept)

  def missing(self, text: str) -> str | None:
    """The first character of the text that the vocabulary lacks, or None."""
    if self.characters is None:
      return None
    table = _ids(self.characters)
    return next((character for character in text if character not in table), None)


@functools.lru_cache
def _ids(characters: str) -> dict[str, int]:
  return {character: SPECIAL + i for i, character in enumerate(characters)}


VOCABS = {
  vocab.name: vocab
  for vocab in (
    # the short prompts and worked steps of the arithmetic tasks: "12,18 gcd=", "3,1,2 desc="
    Vocab('arithmetic', string.digits + '+-*/=().,#;: \nx' + 'acdegms' + 'l'),
    Vocab('ascii', ''.join(map(chr, range(32, 127))) + '\n'),
    Vocab('bytes', None),
  )
}


def holders(character: str) -> list[str]:
  """Names of the vocabularies that have a character."""
  return [vocab.name for vocab in VOCABS.values() if vocab.missing(character) is None]
