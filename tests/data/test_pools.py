import collections
import json

import pytest

from scaling.data import pools, problem_files
from scaling.data.batches import POOLS, DataSpec
from scaling.errors import BadInput

SUMS = 'chain_sum(min_terms=2, max_terms=3, min_digits=1, max_digits=2)'


def spec(**changes):
  base = DataSpec(SUMS, (), 'short', 'arithmetic', 64, 0, 60, 40, 30, 20, 0)
  return base._replace(**changes)


def keys(drafts):
  return [draft.key for draft in drafts]


# -- tasks


def test_a_task_is_a_call_with_literal_arguments():
  assert pools.parse_task('gcd') == ('gcd', {})
  assert pools.parse_task(' gcd(max_value=50) ') == ('gcd', {'max_value': 50})
  task = pools.parse_task("jsonl(path='a.jsonl', keep_marks=True)")
  assert task == ('jsonl', {'path': 'a.jsonl', 'keep_marks': True})


@pytest.mark.parametrize(
  'text, message',
  [
    ('chain_sums', r"unknown task 'chain_sums': did you mean .*chain_sum"),
    ('game_of_life_halting', r'cannot be used: its scorer gives full marks to any text'),
    ('chain_sum(terms=3)', r"no argument 'terms': .*it takes .*max_terms"),
    ('chain_sum(max_term=3)', r"no argument 'max_term': did you mean max_terms\?"),
    ('chain_sum(seed=3)', r"no argument 'seed'"),
    ('chain_sum(min_terms=5, max_terms=3)', r'max_terms must be >= min_terms'),
    ("chain_sum(min_terms='5')", r"chain_sum\(min_terms='5'\)"),
    ("chain_sum(max_terms=__import__('os').getpid())", r'not a name with literal arguments'),
    ("__import__('os').system('true')", r'not a name with literal arguments'),
    ('chain_sum(3)', r'not a name with literal arguments'),
    ('chain_sum(**{})', r'not a name with literal arguments'),
    ('chain_sum(', r'not a name with literal arguments'),
    ('(' * 5000, r'not a name with literal arguments'),
    ('', r'not a name with literal arguments'),
    ('jsonl', r'no path'),
    ('jsonl(path=3)', r'path is 3: it must be a str'),
    ("jsonl(file='a')", r"no argument 'file'.*path"),
  ],
)
def test_bad_tasks(text, message):
  with pytest.raises(BadInput, match=message) as error:
    pools.parse_task(text)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'changes, message',
  [
    ({'style': 'long'}, r"data\.style is 'long'.*short, full"),
    ({'vocab': 'words'}, r"data\.vocab is 'words'.*arithmetic, ascii, bytes"),
    ({'row_tokens': 1}, r'data\.row_tokens is 1'),
    ({'seed': -1}, r'data\.seed is -1'),
    ({'sft': -1}, r'data\.sft is -1'),
    ({'rl': None}, r'data\.rl is None'),
    ({'pretrain': 5}, r'data\.pretrain_tasks is empty'),
    ({'pretrain_tasks': ('gcd',)}, r'data\.pretrain is 0'),
    ({'task': 'gsm_symbolic'}, r"gsm_symbolic: it has no short prompt: use data\.style = 'full'"),
    ({'task': "jsonl(path='a')"}, r"jsonl: it has no short prompt: use data\.style = 'full'"),
    ({'pretrain': 5, 'pretrain_tasks': ('count_bits',)}, r'count_bits: it has no short prompt'),
    ({'task': "jsonl(path='a')", 'style': 'full', 'rl': None, 'sft': None}, r'both None'),
  ],
)
def test_bad_specifications(changes, message):
  with pytest.raises(BadInput, match=message) as error:
    pools.draw(spec(**changes))
  assert '\n' not in str(error.value)


# -- pools of generated problems


def test_pools_share_no_problem_and_come_back_the_same():
  drawn = pools.draw(spec(reward=25))
  assert {pool: len(drawn[pool]) for pool in POOLS} == {
    'sft': 60, 'rl': 40, 'validation': 30, 'test': 20, 'reward': 25
  }  # fmt: skip
  without = pools.draw(spec())
  assert all(without[pool] == drawn[pool] for pool in ('sft', 'rl', 'validation', 'test'))
  every = [key for drafts in drawn.values() for key in keys(drafts)]
  assert len(set(every)) == len(every)
  assert len({draft.problem.id for drafts in drawn.values() for draft in drafts}) == len(every)
  assert pools.draw(spec(reward=25)) == drawn
  assert keys(pools.draw(spec(seed=1))['test']) != keys(drawn['test'])


def test_more_training_problems_leave_the_held_out_ones_alone():
  small, large = pools.draw(spec()), pools.draw(spec(sft=300))
  assert all(small[pool] == large[pool] for pool in ('test', 'validation', 'rl'))
  assert large['sft'][:60] == small['sft']
  other = pools.draw(spec(validation=31))  # each pool has a stream of its own
  assert other['test'] == small['test'] and other['validation'][:30] == small['validation']
  assert len(set(keys(other['rl'])) & set(keys(small['rl']))) >= 39


def test_pretraining_never_meets_a_held_out_problem():
  # 1-digit sums of two terms: 200 problems, of which 60 are held out or for RL
  few = 'chain_sum(min_terms=2, max_terms=2, min_digits=1, max_digits=1)'
  same = 'basic_arithmetic(min_terms=2, max_terms=2, max_digits=1, allow_negation=False)'
  changes = {'task': few, 'sft': 30, 'rl': 20, 'validation': 20, 'test': 20}
  drawn = pools.draw(spec(**changes, pretrain=150, pretrain_tasks=(few, same)))
  hidden = {key for pool in ('rl', 'validation', 'test') for key in keys(drawn[pool])}
  first, second = keys(drawn['pretrain 0']), keys(drawn['pretrain 1'])
  assert len(first) == len(second) == 75
  assert not hidden & {*first, *second}
  assert set(first) & set(keys(drawn['sft']))  # where there are so few
  assert len({*first, *second}) == 150


def test_one_equation_in_other_words_is_one_problem():
  equations = 'simple_equations(min_terms=2, max_terms=2, max_value=3)'
  drawn = pools.draw(spec(task=equations, style='full', vocab='ascii', sft=5))
  bare = collections.Counter()
  for drafts in drawn.values():
    for draft in drafts:
      metadata = draft.problem.entry['metadata']
      bare[metadata['equation'].replace(metadata['variable'], '?')] += 1
  assert max(bare.values()) == 1


def test_too_few_problems():
  few = 'chain_sum(min_terms=1, max_terms=1, min_digits=1, max_digits=1)'
  says = r'only 10 distinct .* left for the test pool.* 20: lower config.data.test_problems'
  with pytest.raises(BadInput, match=says):
    pools.draw(spec(task=few))


def test_sorting_is_scored_without_eval():
  drawn = pools.draw(spec(task='number_sorting(max_numbers=4)', style='full', vocab='ascii'))
  for draft in drawn['test']:
    assert isinstance(json.loads(draft.problem.entry['answer']), list)


# -- JSONL


def line(i, answer='3'):
  return json.dumps(
    {'question': f'Question {i}?', 'answer': f'1+2 = <<1+2=3>>3 by é.\n#### {answer}'}
  )


def write(path, lines):
  path.write_text('\n'.join(lines) + '\n', encoding='utf-8')
  return str(path)


def read(path, name='jsonl', style='full', counts=None, **arguments):
  counts = collections.Counter() if counts is None else counts
  return problem_files.read(name, path, arguments, style, counts)


def test_a_line_becomes_a_problem(tmp_path):
  path = write(tmp_path / 'a.jsonl', [line(0, '1,234'), '', line(1), line(0, '1,234')])
  first, second, again = read(path)
  assert again[:2] == first[:2]
  assert first.problem.prompt == 'Question 0?\n'
  assert first.problem.solution == '1+2 = 3 by é.\n#### 1,234'
  assert first.problem.answer == '1234'
  assert first.origin == f'{path}:1' and second.origin == f'{path}:3'
  marked = next(read(path, keep_marks=True)).problem
  assert marked.solution == '1+2 = <<1+2=3>>3 by é.\n#### 1,234'
  assert marked.id == first.problem.id


@pytest.mark.parametrize(
  'bad, message',
  [
    ('{"question": "a", "answer": "b"', r':2: not JSON'),
    ('[1]', r':2: not a JSON object'),
    ('[' * 100_000, r':2: not JSON'),
    ('{"question": "a"}', r":2: the field 'answer' is missing"),
    ('{"question": 3, "answer": "#### 3"}', r":2: the field 'question' is empty or no text"),
    ('{"question": " ", "answer": "#### 3"}', r":2: the field 'question' is empty or no text"),
    ('{"question": "\\ud800", "answer": "#### 3"}', r":2: the field 'question' has half"),
    ('{"question": "a", "answer": "b\\n3"}', r":2: the answer's last line is '3'"),
    ('{"question": "a", "answer": "b\\n#### many"}', r":2: the answer's last line is '#### many'"),
    ('{"question": "a", "answer": "b\\n####"}', r":2: the answer's last line is '####'"),
  ],
)
def test_bad_lines_are_named(tmp_path, bad, message):
  path = write(tmp_path / 'a.jsonl', [line(0), bad])
  with pytest.raises(BadInput, match=message) as error:
    list(read(path))
  assert path in str(error.value) and '\n' not in str(error.value)


def test_files_that_hold_nothing(tmp_path):
  with pytest.raises(BadInput, match=r'a\.jsonl: no problems in it'):
    list(read(write(tmp_path / 'a.jsonl', ['', ''])))
  with pytest.raises(BadInput, match=r'b\.jsonl: No such file'):
    list(read(str(tmp_path / 'b.jsonl')))
  (tmp_path / 'c.jsonl').write_bytes(b'{"question": "\xff"}')
  with pytest.raises(BadInput, match=r'c\.jsonl:1: not UTF-8'):
    list(read(str(tmp_path / 'c.jsonl')))


def jsonl_spec(task, **counts):
  return spec(task=task, style='full', vocab='bytes', **counts)


def test_a_file_is_split_by_its_questions(tmp_path):
  path = write(tmp_path / 'a.jsonl', [line(i) for i in range(50)])
  task = f'jsonl(path={path!r})'
  drawn = pools.draw(jsonl_spec(task, sft=None, rl=10, validation=8, test=5))
  assert [len(drawn[pool]) for pool in POOLS] == [27, 10, 8, 5, 0]
  every = [key for drafts in drawn.values() for key in keys(drafts)]
  assert len(set(every)) == 50
  backwards = write(tmp_path / 'b.jsonl', [line(i) for i in reversed(range(50))])
  again = pools.draw(
    jsonl_spec(f'jsonl(path={backwards!r})', sft=20, rl=None, validation=8, test=5)
  )
  assert keys(again['test']) == keys(drawn['test'])
  assert keys(again['validation']) == keys(drawn['validation'])
  with pytest.raises(BadInput, match=r'a\.jsonl: 50 distinct problems, .* ask for 60'):
    pools.draw(jsonl_spec(task, sft=None, rl=50, validation=5, test=5))


def test_a_test_file_is_kept_out_of_the_rest(tmp_path):
  train = write(tmp_path / 'train.jsonl', [line(i) for i in range(30)])
  test = write(tmp_path / 'test.jsonl', [line(i) for i in range(25, 40)])
  task = f'jsonl(path={train!r}, test_path={test!r})'
  words = r'test\.jsonl: shares 5 problems with .*train\.jsonl, the first at .*train\.jsonl:'
  with pytest.raises(BadInput, match=words):
    pools.draw(jsonl_spec(task, sft=None, rl=5, validation=5, test=None))
  drawn = pools.draw(
    jsonl_spec(task, contamination='drop', sft=None, rl=5, validation=5, test=None)
  )
  assert [len(drawn[pool]) for pool in POOLS] == [15, 5, 5, 15, 0]
  few = pools.draw(jsonl_spec(task, contamination='drop', sft=None, rl=5, validation=5, test=2))
  assert [len(few[pool]) for pool in POOLS] == [15, 5, 5, 2, 0]
  with pytest.raises(BadInput, match=r'test\.jsonl: 15 distinct problems, and data\.test is 16'):
    pools.draw(jsonl_spec(task, contamination='drop', sft=None, rl=5, validation=5, test=16))


def test_pretraining_on_a_file_skips_what_is_held_out(tmp_path):
  path = write(tmp_path / 'a.jsonl', [line(i) for i in range(50)])
  task = f'jsonl(path={path!r})'
  counts = {'sft': 10, 'rl': 10, 'validation': 5, 'test': 5, 'pretrain_tasks': (task,)}
  drawn = pools.draw(jsonl_spec(task, pretrain=30, **counts))
  hidden = {key for pool in ('rl', 'validation', 'test') for key in keys(drawn[pool])}
  assert not hidden & set(keys(drawn['pretrain 0']))
  with pytest.raises(BadInput, match=r'a\.jsonl: 30 distinct problems, and data\.pretrain is 31'):
    pools.draw(jsonl_spec(task, pretrain=31, **counts))


@pytest.mark.parametrize('sft', [6, None])
def test_long_problems_are_passed_over_and_counted_by_pool(tmp_path, sft):
  words = [' and so on' * (i % 3 == 0) for i in range(60)]  # 20 of them are long
  rows = [
    {'question': f'how many is {i}{w}?', 'answer': f'{i}\n#### {i}'} for i, w in enumerate(words)
  ]
  path = write(tmp_path / 'a.jsonl', map(json.dumps, rows))
  task = f'jsonl(path={path!r})'
  changes = {'row_tokens': 32, 'sft': sft, 'rl': 9, 'validation': 8, 'test': 7}
  out = pools.drawn()
  dropped = out.dropped
  drawn = pools.draw(jsonl_spec(task, long_examples='drop', **changes), None, out)
  assert [len(drawn[pool]) for pool in POOLS] == [6 if sft else 16, 9, 8, 7, 0]
  kept = [draft for drafts in drawn.values() for draft in drafts]
  assert not any('and so on' in draft.problem.prompt for draft in kept)
  assert all(dropped[pool] > 0 for pool in POOLS if drawn[pool])
  assert dropped.total() == 20 if sft is None else dropped.total() < 20

  # each pool walks on in the order of the content: with the long ones in, the same walk
  whole = pools.draw(jsonl_spec(task, sft=60, rl=0, validation=0, test=0))['sft']
  walk = [draft for pool in ('test', 'validation', 'rl', 'sft') for draft in drawn[pool]]
  fits = [draft for draft in whole if 'and so on' not in draft.problem.prompt]
  assert keys(walk) == keys(fits)[: len(walk)]
  lengths = [len(draft.problem.prompt + draft.problem.solution) + 1 for draft in fits]
  assert max(lengths) <= 32

  with pytest.raises(BadInput, match=r'40 distinct problems \(without 20 longer than .* for 41'):
    changes |= {'sft': 17}
    pools.draw(jsonl_spec(task, long_examples='drop', **changes))


def test_long_problems_of_a_test_file_and_of_pretraining_are_counted_too(tmp_path):
  long = json.dumps({'question': 'why ' * 20, 'answer': 'so\n#### 3'})
  train = write(tmp_path / 'train.jsonl', [long, *(line(i) for i in range(30))])
  test = write(tmp_path / 'test.jsonl', [long.replace('why', 'how'), line(30), line(31)])
  task = f'jsonl(path={train!r}, test_path={test!r})'
  given = jsonl_spec(
    task, sft=None, rl=5, validation=5, test=None, row_tokens=60, long_examples='drop',
    pretrain_tasks=(f'jsonl(path={train!r})',), pretrain=20,
  )  # fmt: skip
  out = pools.drawn()
  dropped = out.dropped
  drawn = pools.draw(given, None, out)
  assert [len(drawn[pool]) for pool in POOLS] == [20, 5, 5, 2, 0]
  assert len(drawn['pretrain 0']) == 20 and dropped['test'] == 1
  assert dropped['sft'] + dropped['rl'] + dropped['validation'] == 1
  with pytest.raises(BadInput, match=r'test\.jsonl: 2 distinct problems \(without 1 longer than'):
    pools.draw(given._replace(test=3))


def test_long_sums_are_passed_over():
  out = pools.drawn()
  dropped = out.dropped
  short = spec(row_tokens=16, long_examples='drop')
  drawn = pools.draw(short, None, out)
  sizes = [len(d.problem.prompt + d.problem.solution) + 1 for p in POOLS for d in drawn[p]]
  assert max(sizes) <= 16 and len(sizes) == 150
  assert all(dropped[pool] > 0 for pool in POOLS if drawn[pool])
  assert max(len(d.problem.prompt + d.problem.solution) for d in pools.draw(spec())['sft']) > 16
  with pytest.raises(BadInput, match=r'only 0 distinct .* the test pool \(without \d+ longer than'):
    pools.draw(spec(row_tokens=3, long_examples='drop'))
  with pytest.raises(
    BadInput, match=r"data\.long_examples is 'cut': it must be one of error, drop"
  ):
    pools.draw(spec(long_examples='cut'))


# -- files


def test_fingerprints_follow_the_files(tmp_path):
  path = write(tmp_path / 'a.jsonl', [line(0)])
  of = lambda: pools.fingerprints(jsonl_spec(f'jsonl(path={path!r})', sft=None))
  before = of()
  assert list(before) == [path] and before == of()
  write(tmp_path / 'a.jsonl', [line(1)])
  assert of() != before
  assert pools.fingerprints(spec()) == {}
  with pytest.raises(BadInput, match=r'b\.jsonl'):
    pools.fingerprints(spec(task="jsonl(path='b.jsonl')"))
