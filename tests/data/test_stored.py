"""Problems on disk, and their tokens: encoded once."""

import json

import numpy as np
import pytest

from scaling.data import stored
from scaling.data.vocab import VOCABS

BYTES = VOCABS['bytes']


def written(path, count):
  rows = [{'question': f'q{i} é', 'answer': f'{"so " * i}\n#### {i}'} for i in range(count)]
  path.write_text('\n'.join(map(json.dumps, rows)))
  return str(path)


def counted(vocab, calls):
  """The vocabulary, which notes the responses that it encodes."""
  return vocab._replace(encode=lambda text: calls.append(text) or vocab.encode(text))


@pytest.mark.parametrize('wide', [False, True])
def test_problems_of_a_file_are_encoded_once(tmp_path, wide):
  file = stored.read('jsonl', written(tmp_path / 'a.jsonl', 9), {}, 'full', 0, tmp_path)
  drafts, calls = stored.distinct(file), []
  vocab = counted(BYTES._replace(size=70_000 if wide else BYTES.size), calls)
  first = stored.encode(drafts[2:5], vocab)
  assert calls == [draft.problem.solution for draft in drafts[2:5]]
  twice = stored.Stored(file, np.concatenate([drafts.numbers, drafts.numbers[:3]]))
  found = stored.encode(twice, vocab)
  assert len(calls) == 9 and found.tokens is first.tokens
  for (sequence, prompt), (start, rest), draft in zip(
    map(found.tokens.sequence, found.numbers), found.lengths, twice, strict=True
  ):
    text = draft.problem.prompt, draft.problem.solution
    expected = [*BYTES.encode(text[0]), *BYTES.encode(text[1]), BYTES.stop]
    assert sequence.tolist() == expected and sequence.dtype == (np.uint32 if wide else np.uint16)
    assert (prompt, start, start + rest) == (len(text[0].encode()), prompt, len(expected))
  assert not found.unwritten.any()


def test_another_vocabulary_encodes_anew(tmp_path):
  file = stored.read('jsonl', written(tmp_path / 'a.jsonl', 5), {}, 'full', 0, tmp_path)
  drafts = stored.distinct(file)
  stored.encode(drafts, BYTES)
  found = stored.encode(drafts[:2], VOCABS['ascii'])
  assert found.lengths[:, 0].tolist() == [len(draft.problem.prompt) for draft in drafts[:2]]
  assert found.unwritten.all()  # é
  assert len(found.tokens.prompts) == 2


def test_problems_in_memory_are_encoded_likewise(tmp_path):
  file = stored.read('jsonl', written(tmp_path / 'a.jsonl', 5), {}, 'full', 0, tmp_path)
  drafts = stored.distinct(file)
  ours, same = stored.encode(list(drafts), BYTES, tmp_path), stored.encode(drafts, BYTES)
  for one, other in zip(ours.numbers, same.numbers, strict=True):
    (a, start), (b, its) = ours.tokens.sequence(one), same.tokens.sequence(other)
    assert a.tolist() == b.tolist() and start == its


def test_what_is_read_is_what_was_written(tmp_path):
  entry = {'level': 3, 'type': 'é', 'subject': None}
  row = {'problem': 'p', 'solution': r'\boxed{1}', **entry}
  path = tmp_path / 'a.jsonl'
  path.write_text('\n' + json.dumps(row))
  (draft,) = stored.distinct(stored.read('math', str(path), {}, 'full', 0, tmp_path))
  assert draft.problem.entry == entry and draft.origin == f'{path}:2'
  assert draft.problem.id == stored.problem_files.identity('math', 'p\n')
