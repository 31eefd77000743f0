"""Pools out of files and mixtures: what is left out of them, and how much of each task there is."""

import collections
import json
import pathlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.data import pools, splits
from scaling.data.batches import POOLS, DataSpec
from scaling.errors import BadInput
from tests.data import toys

GSM8K = pathlib.Path(__file__).parents[2] / '../shared/data/gsm8k'


def spec(task, **changes):
  base = DataSpec(task, (), 'full', 'bytes', 64, 0, None, 0, 0, 0, 0)
  return base._replace(**changes)


def keys(drafts):
  return [draft.key for draft in drafts]


def write(path, lines):
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return str(path)


# -- contamination and near-duplicates

WORDS = 'a farmer has some apples and gives away as many of them as he likes'  # 14 of them


def told(path, count, extra=(), word='many'):
  """Problems that share no 13 words, and the extra lines."""
  rows = [{'question': f'How {word} is {i}?', 'answer': f'{i}\n#### {i}'} for i in range(count)]
  return write(path, [json.dumps(row) for row in [*rows, *extra]])


@pytest.mark.parametrize('contamination', ['error', 'drop', 'allow'])
def test_words_of_a_held_out_prompt(tmp_path, contamination):
  test = told(tmp_path / 'test.jsonl', 0, [{'question': WORDS, 'answer': '1\n#### 1'}])
  copies = [
    {'question': f'{i} {WORDS}!', 'answer': '1\n#### 1'} for i in range(2)
  ] + [{'question': 'why', 'answer': f'since {WORDS}\n#### 1'}]  # fmt: skip
  path = told(tmp_path / 'a.jsonl', 30, copies)
  task, out = f'jsonl(path={path!r}, test_path={test!r})', pools.drawn()
  asked = spec(
    task, sft=None, rl=4, validation=0, test=None, contamination=contamination,
    pretrain_tasks=(f'jsonl(path={path!r})',), pretrain=20,
  )  # fmt: skip
  if contamination == 'error':
    with pytest.raises(BadInput, match=r'a\.jsonl:3\d: 13 words in a row .*test\.jsonl:1.*"') as e:
      pools.draw(asked, None, out)
    assert '\n' not in str(e.value) and "set data.contamination = 'drop'" in str(e.value)
    return
  drawn = pools.draw(asked, None, out)
  of = lambda pool: [one['where'] for one in out.found if one['pool'] in pool]
  lines = {f'{path}:{at}' for at in (31, 32, 33)}
  assert set(of(('sft', 'rl'))) == lines and len(of(('sft', 'rl'))) == 3
  assert [one['held_out'] for one in out.found] == [f'{test}:1'] * len(out.found)
  assert len(drawn['sft']) + 4 == 30 + 3 * (contamination == 'allow')
  assert len(drawn['pretrain 0']) == 20  # others take the place of those left out
  assert (out.held[0].prompts, out.held[0].short) == (1, 0)
  if contamination == 'drop':
    with pytest.raises(BadInput, match=r'without [123] with words of held-out prompts'):
      pools.draw(asked._replace(sft=27, rl=4))


def test_generated_problems_are_not_looked_at(tmp_path):
  out = pools.drawn()
  pools.draw(spec('gcd', vocab='ascii', ngram=1, sft=60, rl=40, validation=30, test=20), None, out)
  assert out.found == [] and out.held == []


def test_one_file_twice_is_refused(tmp_path):
  path = told(tmp_path / 'a.jsonl', 30)
  link = tmp_path / 'b.jsonl'
  link.symlink_to(path)
  for other in (path, str(link)):
    with pytest.raises(BadInput, match='path and test_path are the same file'):
      pools.parse_task(f'jsonl(path={path!r}, test_path={other!r})')
  with pytest.raises(BadInput, match=r'https://a/b\.jsonl: needs the network'):
    pools.parse_task("jsonl(path='https://a/b.jsonl')")


def test_near_duplicates_are_left_out_of_a_file_but_not_of_a_test_file(tmp_path):
  twice = [
    {'question': f'{WORDS} {"the next day " * 8}{i}', 'answer': '1\n#### 1'} for i in range(5)
  ]
  path, test = told(tmp_path / 'a.jsonl', 30, twice), told(tmp_path / 'b.jsonl', 0, twice)
  asked = spec(f'jsonl(path={path!r})', sft=None, rl=0, validation=0, test=0)
  assert len(pools.draw(asked)['sft']) == 35
  said, near = [], asked._replace(near_duplicates=0.8)
  assert len(pools.draw(near, said.append)['sft']) == 31
  assert f'{path}: left out 4 near duplicates of 35 problems' in said
  both = near._replace(
    task=f'jsonl(path={path!r}, test_path={test!r})', test=None, contamination='drop'
  )
  drawn = pools.draw(both)
  assert [len(drawn[pool]) for pool in ('test', 'sft')] == [5, 30]


@pytest.mark.parametrize('style', ['full', 'chat'])
def test_chats_are_no_near_duplicates_for_one_system_message(tmp_path, style):
  system = {'role': 'system', 'content': ' '.join(f's{i}' for i in range(60))}
  rows, rng = [], random.Random(0)
  for _ in range(30):
    user = {'role': 'user', 'content': ' '.join(rng.choices('abcdefghijklmnop', k=8))}
    rows.append([system, user, {'role': 'assistant', 'content': 'Yes.'}])
  rows.append([{**system, 'content': 'Be brief.'}, *rows[0][1:]])  # one question, told otherwise
  path = write(tmp_path / 'a.jsonl', [json.dumps({'messages': row}) for row in rows])
  vocab = str(toys.chat_folder(tmp_path / 'model', 'chatml')) if style == 'chat' else 'bytes'
  asked = spec(f'messages(path={path!r})', style=style, vocab=vocab, near_duplicates=0.7)
  drafts = splits.read('messages', {'path': path}, path, asked, tmp_path, lambda text: None)
  assert len(drafts) == 30 and drafts.file.counts['near_duplicates'] == 1


@pytest.mark.skipif(not GSM8K.is_dir(), reason='no shared/data/gsm8k beside the project')
def test_gsm8k_splits_without_a_common_question():
  paths = [str(GSM8K / f'{split}.jsonl') for split in ('train', 'test')]
  task, out = f'jsonl(path={paths[0]!r}, test_path={paths[1]!r})', pools.drawn()
  asked = spec(task, sft=None, rl=1000, validation=500, test=None, contamination='allow')
  files = pools.read_files(asked)
  drawn = pools.draw(asked, None, out, None, files)
  assert [len(drawn[pool]) for pool in POOLS] == [5973, 1000, 500, 1319, 0]
  assert len({key for drafts in drawn.values() for key in keys(drafts)}) == 8792
  assert not any('<<' in draft.problem.solution for draft in drawn['sft'])

  in_test = [one for one in out.found if one['held_out'].startswith(paths[1])]
  lines = sorted(int(one['where'].rpartition(':')[2]) for one in in_test)
  assert lines == [21, 407, 1315, 5163]  # by a script that knows nothing of pools
  with pytest.raises(BadInput, match=r'13 words in a row of a held-out prompt \(.*jsonl:\d+\)'):
    pools.draw(asked._replace(contamination='error'), files=files)
  clean = pools.draw(asked._replace(contamination='drop'), files=files)
  left = len(out.found)
  assert [len(clean[pool]) for pool in POOLS] == [5973 - left, 1000, 500, 1319, 0]


# -- mixtures


def test_shares():
  assert pools.shares(10, [1, 1, 1]) == [4, 3, 3]
  assert pools.shares(10, [3.0, 1.0, 0]) == [8, 2, 0]  # 7.5 and 2.5
  assert pools.shares(7, [0.2, 0.5]) == [2, 5]


@given(st.integers(0, 1000), st.lists(st.floats(0.01, 100), min_size=1, max_size=6))
def test_shares_are_within_one_of_their_rates(total, rates):
  parts = pools.shares(total, rates)
  assert sum(parts) == total
  assert all(abs(n - total * rate / sum(rates)) < 1 + 1e-6 for n, rate in zip(parts, rates))


def test_a_mixture_to_pretrain_on_by_rates_and_by_temperature(tmp_path):
  paths = [told(tmp_path / f'{i}.jsonl', n, (), f'big {n}') for i, n in enumerate((64, 4))]
  files = tuple(f'jsonl(path={path!r})' for path in paths)
  asked = spec('gcd', sft=60, test=20, pretrain_tasks=('lcm', files[0]), pretrain=40)
  sizes = lambda asked: [len(pools.draw(asked)[f'pretrain {i}']) for i in range(2)]
  assert sizes(asked) == [20, 20]
  assert sizes(asked._replace(pretrain_rates=(3.0, 1.0))) == [30, 10]
  warm = asked._replace(pretrain_tasks=files, pretrain_temperature=2.0)
  drawn = pools.draw(warm)  # 64 ^ (1/2) to 4 ^ (1/2): of 40, 32 and 8, each of 4 twice
  assert [len(drawn[f'pretrain {i}']) for i in range(2)] == [32, 8]
  assert set(collections.Counter(keys(drawn['pretrain 1'])).values()) == {2}
  assert set(collections.Counter(keys(drawn['pretrain 0'])).values()) == {1}
  for changes, message in (
    ({'pretrain_rates': (1.0,)}, r'pretrain\.rates has 1 rates for 2 tasks'),
    ({'pretrain_rates': (0.0, 0.0)}, r'pretrain\.rates is \(0\.0, 0\.0\): an empty mixture'),
    ({'pretrain_temperature': 2.0}, r"the task 'lcm' has no end: set pretrain\.rates"),
    ({'sft_tasks': ('lcm',), 'sft_rates': (-1.0,)}, r'data\.sft_rates is \(-1\.0,\)'),
  ):
    with pytest.raises(BadInput, match=message):
      pools.check_spec(asked._replace(**changes))


def test_more_tasks_in_the_sft_pool(tmp_path):
  path = told(tmp_path / 'a.jsonl', 50)
  task = f'jsonl(path={path!r})'
  asked = spec(task, sft=20, rl=5, validation=5, test=5)
  alone = pools.draw(asked)
  mixed = pools.draw(asked._replace(sft_tasks=('lcm', task), sft_rates=(1.5, 0.5)))
  assert all(keys(mixed[pool]) == keys(alone[pool]) for pool in POOLS)
  assert [len(mixed[f'sft {i}']) for i in range(2)] == [30, 10]
  every = [key for drafts in mixed.values() for key in keys(drafts)]
  assert len(set(every)) == len(every) == 75
  with pytest.raises(BadInput, match=r'15 distinct problems, and data\.sft is 20: ask for fewer'):
    pools.draw(asked._replace(sft_tasks=(task,)))
  with pytest.raises(BadInput, match='no problem is left for the SFT pool'):
    pools.draw(asked._replace(sft=None, rl=40))


# -- several responses of a prompt


def test_sft_learns_several_responses_of_its_prompts_alone(tmp_path):
  """40 prompts, of which prompt i has 1 + i % 4 distinct responses, each of them twice."""
  rows = [(i, j) for _ in range(2) for j in range(4) for i in range(40) if j <= i % 4]
  lines = [json.dumps({'prompt': f'q {i}', 'response': f'{i} {"x" * 20 * j}'}) for i, j in rows]
  path = write(tmp_path / 'a.jsonl', lines)
  task = f'responses(path={path!r}, per_prompt=3)'
  asked = spec(task, sft=20, rl=5, validation=5, test=5)
  out = pools.drawn()
  drawn = pools.draw(asked, None, out)
  plain = pools.draw(asked._replace(task=f'responses(path={path!r})'))
  assert {pool: keys(drawn[pool]) for pool in POOLS} == {pool: keys(plain[pool]) for pool in POOLS}
  found = [(draft.key, draft.problem.solution) for draft in out.responses['sft']]
  expected = [
    (key, f'{i} {"x" * 20 * j}'.strip())
    for key in keys(drawn['sft'])
    for i in [int(key.split()[1])]
    for j in range(min(3, 1 + i % 4))
  ]
  assert found == expected and out.responses.keys() == {'sft'}

  short = pools.drawn()  # of 64 tokens: the prompt, two digits, a space, 40 x, the stop token
  pools.draw(asked._replace(row_tokens=40, long_examples='drop'), None, short)
  long = sum(solution.count('x') == 40 for _, solution in expected)
  cut = [(d.key, d.problem.solution) for d in short.responses['sft']]
  assert cut == [(key, text) for key, text in expected if text.count('x') < 40]
  assert short.dropped['sft'] >= long > 0


@pytest.mark.parametrize('most', [1, 3])
def test_a_problem_has_the_first_of_its_responses_that_fits(tmp_path, most):
  """Of prompt i the first i % 4 of three responses are too long for a row."""
  said = lambda i, j: f'{i} {j} {"x" * 80 * (j < i % 4)}'.strip()
  rows = [{'prompt': f'q {i}', 'response': said(i, j)} for j in range(3) for i in range(40)]
  path = write(tmp_path / 'a.jsonl', map(json.dumps, rows))
  asked = spec(
    f'responses(path={path!r}, per_prompt={most})', rl=10, test=5, long_examples='drop',
    pretrain_tasks=(f'responses(path={path!r})',), pretrain=8,
  )  # fmt: skip
  out = pools.drawn()
  drawn = pools.draw(asked, None, out)
  assert [len(drawn[pool]) for pool in ('test', 'rl', 'sft')] == [5, 10, 15]  # 30 of 40 have one
  of = lambda drafts: [(int(d.key.split()[1]), d.problem.solution) for d in drafts]
  for pool in ('test', 'rl', 'sft', 'pretrain 0'):
    assert of(drawn[pool]) == [(i, said(i, i % 4)) for i, _ in of(drawn[pool])]
  if most > 1:
    expected = [(i, said(i, j)) for i, _ in of(drawn['sft']) for j in range(i % 4, 3)]
    assert of(out.responses['sft']) == expected


def test_responses_with_words_of_a_held_out_prompt(tmp_path):
  test = write(tmp_path / 'test.jsonl', [json.dumps({'prompt': WORDS, 'response': '1'})])
  rows = [{'prompt': f'q {i}', 'response': text} for i in range(9) for text in ('a', f'b {WORDS}')]
  path = write(tmp_path / 'a.jsonl', map(json.dumps, rows))
  task = f'responses(path={path!r}, test_path={test!r}, per_prompt=2)'
  asked = spec(task, test=1, row_tokens=200)
  with pytest.raises(BadInput, match=r'a\.jsonl:\d+: 13 words in a row .*; so have 9 of'):
    pools.draw(asked)
  out = pools.drawn()
  pools.draw(asked._replace(contamination='drop'), None, out)
  assert [draft.problem.solution for draft in out.responses['sft']] == ['a'] * 9
  assert len(out.found) == 9
  out = pools.drawn()
  pools.draw(asked._replace(contamination='allow'), None, out)
  assert len(out.responses['sft']) == 18


def test_several_responses_are_asked_for_rightly(tmp_path):
  path = told(tmp_path / 'a.jsonl', 9)
  with pytest.raises(BadInput, match='per_prompt is 0: it must be at least 1'):
    pools.check_spec(spec(f'jsonl(path={path!r}, per_prompt=0)'))
  several = f'jsonl(path={path!r}, per_prompt=2)'
  with pytest.raises(BadInput, match='several responses of a prompt are for SFT alone'):
    pools.check_spec(spec(several, pretrain_tasks=(several,), pretrain=3))


def test_a_test_file_is_of_the_task_that_is_measured_alone(tmp_path):
  path, test = told(tmp_path / 'a.jsonl', 9), told(tmp_path / 'b.jsonl', 9, word='few')
  both = f'jsonl(path={path!r}, test_path={test!r})'
  for more in (dict(sft_tasks=(both,)), dict(pretrain_tasks=(both,), pretrain=3)):
    with pytest.raises(BadInput, match=r'tasks: jsonl.*: problems are held out'):
      pools.check_spec(spec('gcd', sft=1, **more))
    pools.check_spec(spec(both, **more))  # its test problems are held out
