import ast
import collections
import errno
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from scaling import study
from scaling.data import batches, pools, subwords, tasks
from scaling.data.vocab import PADDING, STOP, VOCABS
from scaling.errors import BadInput
from scaling.stages import sample
from tests import tiny
from tests.data import toys

ROOT = pathlib.Path(__file__).parents[2]
MIXTURE = ('gcd(max_value=60)', 'products(max_digits=2)')
SPEC = batches.DataSpec(
  task='chain_sum(min_terms=2, max_terms=4, max_digits=2)',
  pretrain_tasks=MIXTURE,
  style='short',
  vocab='arithmetic',
  row_tokens=96,
  seed=3,
  sft=300,
  rl=20,
  validation=40,
  test=30,
  pretrain=400,
)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  folder = tmp_path_factory.mktemp('data') / 'prepared'
  said = []
  tasks.prepare(SPEC, folder, said.append)
  assert said and all(isinstance(line, str) for line in said)
  return folder


def segments(folder, pool):
  """Each packed example as (tokens, positions, mask), in the order of the rows."""
  rows = batches.packed(folder, pool)
  for row in range(len(rows.tokens)):
    tokens, positions, ids, mask = (np.asarray(array[row]) for array in rows)
    assert (ids[ids > 0] == np.sort(ids[ids > 0])).all()
    used = ids > 0
    assert used[: used.sum()].all()  # padding comes last
    assert (tokens[~used] == PADDING).all() and not mask[~used].any()
    for segment in range(1, ids.max() + 1):
      at = ids == segment
      yield tokens[at], positions[at], mask[at]


def expected(drafts, every_token):
  vocab = VOCABS[SPEC.vocab]
  for draft in drafts:
    prompt, response = vocab.encode(draft.problem.prompt), vocab.encode(draft.problem.solution)
    mask = [every_token] * len(prompt) + [True] * (len(response) + 1)
    yield (*prompt, *response, STOP), tuple([False, *mask[1:]])


@pytest.mark.parametrize('pool', batches.PACKED)
def test_packing_never_mixes_and_loses_nothing(folder, pool):
  drawn = pools.draw(SPEC)
  drafts = [draft for name in drawn if name.split()[0] == pool for draft in drawn[name]]
  found = collections.Counter()
  for tokens, positions, mask in segments(folder, pool):
    assert (positions == np.arange(len(tokens))).all()
    found[tuple(tokens.tolist()), tuple(mask.tolist())] += 1
  assert found == collections.Counter(expected(drafts, pool == 'pretrain'))
  counts = batches.load(folder).counts[pool]
  rows = batches.packed(folder, pool)
  assert counts == {
    'problems': len(drafts),
    'dropped': 0,
    'rows': len(rows.tokens),
    'tokens': sum(len(tokens) for tokens, _ in found),
    'loss_tokens': sum(sum(mask) for _, mask in found),
  }
  assert counts['tokens'] > 0.7 * rows.tokens.size  # what packing is for


def test_the_mixture_mixes(folder):
  decode = VOCABS[SPEC.vocab].decode
  texts = [decode(tokens) for tokens, _, _ in segments(folder, 'pretrain')]
  kinds = ['gcd' in text for text in texts]
  assert sum(kinds) == 200 and len(kinds) == 400
  assert 60 < sum(kinds[:200]) < 140


def test_problems_and_index_come_back(folder):
  drawn = pools.draw(SPEC)
  for pool in batches.POOLS:
    assert batches.problems(folder, pool) == [draft.problem for draft in drawn[pool]]
  data = batches.load(folder)
  assert data.spec == json.loads(json.dumps(SPEC._asdict()))
  assert data.vocab == VOCABS['arithmetic']
  every = [draft.problem for pool in batches.POOLS for draft in drawn[pool]]
  assert data.max_prompt_tokens == max(len(problem.prompt) for problem in every)
  assert data.max_response_tokens == max(len(problem.solution) for problem in every) + 1
  assert {pool: data.counts[pool]['problems'] for pool in data.counts} == {
    'sft': 300, 'rl': 20, 'validation': 40, 'test': 30, 'pretrain': 400, 'reward': 0
  }  # fmt: skip


def test_the_same_bytes_every_time(folder, tmp_path):
  tasks.prepare(SPEC, tmp_path / 'again')
  files = sorted(path.relative_to(folder) for path in folder.rglob('*') if path.is_file())
  assert len(files) == 3 * 5 + 2
  for file in files:
    assert (folder / file).read_bytes() == (tmp_path / 'again' / file).read_bytes(), file


def test_text_of_any_script_is_packed_as_bytes(tmp_path):
  words = ['naïve café', 'the price is 3 €', '数 is 7', 'plain']
  rows = [
    {'question': f'{word}?', 'answer': f'so {word}\n#### {i}'} for i, word in enumerate(words)
  ]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  changes = {'task': f'jsonl(path={str(path)!r})', 'style': 'full', 'vocab': 'bytes'}
  counts = {'sft': None, 'rl': 0, 'validation': 0, 'test': 0, 'pretrain': 0, 'pretrain_tasks': ()}
  spec = SPEC._replace(**changes, **counts)
  tasks.prepare(spec, tmp_path / 'data')
  found = {VOCABS['bytes'].decode(tokens) for tokens, _, _ in segments(tmp_path / 'data', 'sft')}
  assert found == {f'{row["question"]}\n{row["answer"]}' for row in rows}

  tasks.prepare(spec, tmp_path / 'data')
  path.write_text('\n'.join(map(json.dumps, rows[:2])))
  with pytest.raises(BadInput, match=r'a\.jsonl: changed since .*data was prepared'):
    tasks.prepare(spec, tmp_path / 'data')
  path.unlink()
  tasks.prepare(spec, tmp_path / 'data')  # the arrays are enough


# -- tokenizers


def tiny_spec(vocab, style='full'):
  c = tiny.get_config()
  c.data.vocab, c.data.style, c.data.row_tokens = vocab, style, 160
  c.data.sft_problems = 150
  return study.data_spec(c)


def check_rows(folder, spec):
  """The packed rows against each problem encoded by itself, by id; problems in any order."""
  data = batches.load(folder)
  drawn = pools.draw(spec._replace(long_examples='error'))
  for pool in batches.PACKED:
    drafts = [draft for name in drawn if name.split()[0] == pool for draft in drawn[name]]
    direct = collections.Counter()
    for draft in drafts:
      prompt = data.vocab.prompt(draft.problem.prompt)
      response = [*data.vocab.encode(draft.problem.solution), data.vocab.stop]
      mask = [pool == 'pretrain'] * len(prompt) + [True] * len(response)
      direct[(*prompt, *response), (False, *mask[1:])] += 1
    found = collections.Counter(
      (tuple(tokens.tolist()), tuple(mask.tolist())) for tokens, _, mask in segments(folder, pool)
    )
    assert found == direct
  return data


def test_a_study_with_a_bpe_of_its_own(tmp_path):
  spec = tiny_spec('bpe(290)')
  said = []
  tasks.prepare(spec, tmp_path / 'data', said.append)
  assert 'training bpe(290) on 350 examples' in said
  data = check_rows(tmp_path / 'data', spec)
  assert data.vocab.name == 'bpe(290)' and data.vocab.size == 290
  assert data.vocab.stop == 0  # an id that packing takes for padding
  drawn = pools.draw(spec)
  texts = [
    text
    for pool in ('sft', 'pretrain 0')
    for draft in drawn[pool]
    for text in (draft.problem.prompt, draft.problem.solution)
  ]
  subwords.train(texts, 290, tmp_path / 'direct')
  written = lambda folder: (folder / 'tokenizer.json').read_bytes()
  assert written(tmp_path / 'data' / 'tokenizer') == written(tmp_path / 'direct')
  prompts = [problem.prompt for problem in batches.problems(data.folder, 'test')]
  tokens = sum(len(data.vocab.prompt(prompt)) for prompt in prompts)
  assert tokens < sum(map(len, prompts)) / 2

  with pytest.raises(BadInput, match=r"yields \d+ tokens: use 'bpe\(\d+\)' or less"):
    tasks.prepare(tiny_spec('bpe(5000)'), tmp_path / 'more')
  assert not (tmp_path / 'more').exists()


@pytest.mark.parametrize('style', ['full', 'chat'])
def test_a_study_with_a_tokenizer_of_a_folder(tmp_path, style):
  path = toys.chat_folder(tmp_path / 'models', 'llama3')
  spec = tiny_spec(str(path), style)
  tasks.prepare(spec, tmp_path / 'data')
  data = check_rows(tmp_path / 'data', spec)
  token = lambda i: data.vocab.decode([i])
  first, *_ = segments(tmp_path / 'data', 'sft')
  ids = first[0].tolist()
  assert token(ids[0]) == '<|begin_of_text|>' and ids[-1] == data.vocab.stop
  assert ('assistant<|end_header_id|>' in ''.join(map(token, ids[:-1]))) == (style == 'chat')
  problem = batches.problems(data.folder, 'test')[0]
  tokens, lengths, _ = batches.encode_prompts([problem], data.vocab, 160)
  assert tokens[0, : lengths[0]].tolist() == data.vocab.prompt(problem.prompt)

  assert data.sources.keys() == {
    str(path / name) for name in ('tokenizer.json', 'tokenizer_config.json')
  }
  tasks.prepare(spec, tmp_path / 'data')
  (path / 'tokenizer_config.json').write_text('{}')
  with pytest.raises(BadInput, match=r'tokenizer_config\.json: changed since .*data was prepared'):
    tasks.prepare(spec, tmp_path / 'data')
  for file in path.iterdir():
    file.unlink()
  assert batches.load(tmp_path / 'data').vocab == data.vocab  # a copy is kept


def test_a_plan_sees_a_file_that_is_not_there_and_words_that_the_vocabulary_lacks(tmp_path):
  tasks.check_first(SPEC)
  words = SPEC._replace(task='letter_counting', style='full', row_tokens=512)
  with pytest.raises(BadInput, match=r"character '.' is not in the vocabulary 'arithmetic': use"):
    tasks.check_first(words)
  tasks.check_first(words._replace(vocab='ascii'))
  with pytest.raises(BadInput, match=r'rows\.jsonl: No such file'):
    tasks.check_first(words._replace(task=f"jsonl(path='{tmp_path}/rows.jsonl')"))


def test_a_study_with_a_sentencepiece_model_is_packed_as_seqios_own_vocabulary_has_it(tmp_path):
  import seqio

  path = toys.sentencepiece_model(tmp_path / 'spiece.model', character_coverage=1.0)
  spec = tiny_spec(str(path))
  with pytest.raises(
    BadInput, match=r"the character '.' is not in the vocabulary '.*spiece\.model'"
  ):
    tasks.prepare(spec, tmp_path / 'data')  # never met in the text that it was trained on
  everything = [chr(c) for c in range(33, 127)]
  path = toys.sentencepiece_model(path, user_defined_symbols=everything, vocab_size=200)
  tasks.prepare(spec, tmp_path / 'data')
  data = check_rows(tmp_path / 'data', spec)
  theirs = seqio.SentencePieceVocabulary(str(path))
  expected = {
    (*theirs.encode(problem.prompt), *theirs.encode(problem.solution), theirs.eos_id)
    for problem in batches.problems(data.folder, 'sft')
  }
  assert {tuple(tokens.tolist()) for tokens, _, _ in segments(data.folder, 'sft')} == expected


def test_the_versions_that_are_written_down_are_of_the_packages_that_a_study_uses(tmp_path):
  model = str(toys.sentencepiece_model(tmp_path / 'spiece.model'))
  chat = str(toys.chat_folder(tmp_path / 'x', 'qwen'))
  used = lambda **changes: list(pools.versions(SPEC._replace(**changes)))
  assert used() == ['reasoning-gym', 'seqio']
  assert used(vocab='bpe(300)', pretrain_tasks=()) == ['reasoning-gym', 'tokenizers']
  file = dict(task="jsonl(path='a.jsonl')", pretrain_tasks=())
  assert used(**file) == [] and used(**file, vocab=model) == ['sentencepiece']
  assert used(**file, vocab=chat, style='chat') == ['tokenizers', 'jinja2']
  tfds = "responses(path='tfds:xsum/train')"
  assert used(**file, sft_tasks=(tfds,)) == ['seqio', 'tensorflow-datasets']


def test_programs_need_a_vocabulary_that_keeps_their_lines(tmp_path):
  """SentencePiece makes a space of each stretch of them: a program in lines is none any more."""
  model = toys.sentencepiece_model(
    tmp_path / 'spiece.model', vocab_size=300, user_defined_symbols=list(map(chr, range(33, 127)))
  )
  rows = [
    {
      'prompt': f'Add {i}.', 'solution': f'def f(x):\n  y = x + {i}\n  return y',
      'tests': [f'assert f(1) == {i + 1}'],
    }
    for i in range(2)
  ]  # fmt: skip
  path = tmp_path / 'code.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  counts = {pool: 0 for pool in (*batches.POOLS, 'pretrain')} | {'test': 2}
  spec = SPEC._replace(task=f'code(path={str(path)!r})', pretrain_tasks=(), style='full', **counts)
  with pytest.raises(BadInput, match=r"code\.jsonl:\d: .*def f\(x\): y .*data.vocab = 'bytes'"):
    tasks.prepare(spec._replace(vocab=str(model)), tmp_path / 'lost')
  assert not (tmp_path / 'lost').exists()
  tells = {'prompt': 'Say it.', 'response': 'two\n  lines'}  # an exact match heeds no spaces
  path.write_text(json.dumps(tells))
  told = spec._replace(task=f'responses(path={str(path)!r})', vocab=str(model), test=1)
  tasks.prepare(told, tmp_path / 'told')


def test_ids_beyond_16_bits_are_kept(tmp_path):
  tokenizer = toys.byte_level(size=300)
  tokenizer.add_tokens([f'<{i}>' for i in range(70_000)] + [' the'])
  path = toys.folder(tmp_path / 'model', tokenizer, eos_token='<|endoftext|>')
  spec = tiny_spec(str(path))
  tasks.prepare(spec, tmp_path / 'data')
  data = check_rows(tmp_path / 'data', spec)
  rows = batches.packed(data.folder, 'sft')
  assert data.vocab.size == 70_301 and rows.tokens.dtype == np.uint32
  assert rows.tokens.max() == 70_300
  assert batches.read(rows, np.arange(len(rows.tokens)))['tokens'].max() == 70_300


def test_no_held_out_problem_teaches_a_bpe_where_long_ones_are_left_out(tmp_path, monkeypatch):
  """The file's problems are given out in one order, so leaving some out moves all that follow."""
  rows = [
    {'question': f'what is {"so " * (i % 3 * 20)}{i} and {i}?', 'answer': f'{i}\n#### {2 * i}'}
    for i in range(90)
  ]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  counts = {
    'sft': None,
    'rl': 10,
    'validation': 10,
    'test': 10,
    'pretrain': 0,
    'pretrain_tasks': (),
  }
  spec = SPEC._replace(
    task=f'jsonl(path={str(path)!r})', style='full', vocab='bpe(270)', row_tokens=40, **counts,
    long_examples='drop',
  )  # fmt: skip
  taught = []
  train = subwords.train
  monkeypatch.setattr(
    subwords, 'train', lambda texts, *a: train(taught.append(list(texts)) or taught[-1], *a)
  )
  tasks.prepare(spec, tmp_path / 'data')
  held = {
    p.prompt
    for pool in ('rl', 'validation', 'test')
    for p in batches.problems(tmp_path / 'data', pool)
  }
  assert len(held) == 30 and len(taught) > 1
  assert set(taught[0]) & held and not set(taught[-1]) & held
  assert all(len(tokens) <= 40 for tokens, _, _ in segments(tmp_path / 'data', 'sft'))


def test_a_prepared_folder_is_left_alone(folder, monkeypatch):
  def fails(*args):
    raise AssertionError('drawn again')

  monkeypatch.setattr(tasks, 'draw', fails)
  tasks.prepare(SPEC, folder)
  with pytest.raises(BadInput, match=r'prepared: holds data of another specification'):
    tasks.prepare(SPEC._replace(seed=4), folder)


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
  def full(*args):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(np, 'save', full)
  with pytest.raises(BadInput, match=r'data: No space left on device: .*writable and with room'):
    tasks.prepare(SPEC, tmp_path / 'data')
  assert not list(tmp_path.iterdir())


def test_a_character_that_the_vocabulary_lacks(tmp_path):
  spec = SPEC._replace(task='gcd', style='full')
  with pytest.raises(BadInput) as error:
    tasks.prepare(spec, tmp_path / 'data')
  assert 'gcd-' in str(error.value) and "'F'" in str(error.value)
  assert "use data.vocab = 'ascii' or 'bytes'" in str(error.value)
  assert not list(tmp_path.iterdir())


def test_an_example_longer_than_a_row(tmp_path):
  with pytest.raises(BadInput, match=r'chain_sum-\w{16}: prompt of \d+ tokens \+ response of \d+'):
    tasks.prepare(SPEC._replace(row_tokens=12), tmp_path / 'data')
  path = tmp_path / 'a.jsonl'
  path.write_text('{"question": "a", "answer": "b\\n#### 3"}\n')
  counts = {'sft': 1, 'rl': 0, 'validation': 0, 'test': 0, 'pretrain': 0, 'pretrain_tasks': ()}
  spec = SPEC._replace(
    task=f'jsonl(path={str(path)!r})', style='full', vocab='bytes', row_tokens=10, **counts
  )
  with pytest.raises(BadInput, match=r'a\.jsonl:1: .* = 11, and data\.row_tokens is 10'):
    tasks.prepare(spec, tmp_path / 'data')


def test_long_examples_are_left_out_when_told(tmp_path):
  rows = [{'question': 'q' * i, 'answer': f'{i}\n#### {i}'} for i in range(1, 31)]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  counts = {'sft': None, 'rl': 0, 'validation': 5, 'test': 5, 'pretrain': 0, 'pretrain_tasks': ()}
  spec = SPEC._replace(
    task=f'jsonl(path={str(path)!r})', style='full', vocab='bytes', row_tokens=32, **counts
  )
  with pytest.raises(BadInput, match=r"raise it, .*or set data\.long_examples = 'drop'"):
    tasks.prepare(spec, tmp_path / 'data')
  said = []
  tasks.prepare(spec._replace(long_examples='drop'), tmp_path / 'data', said.append)
  found = batches.load(tmp_path / 'data')
  lengths = [i + 1 + 2 * len(str(i)) + 6 + 1 for i in range(1, 31)]
  long = sum(length > 32 for length in lengths)
  assert 0 < long < 20
  dropped = {pool: found.counts[pool]['dropped'] for pool in found.counts}
  assert sum(dropped.values()) == long and dropped['rl'] == dropped['pretrain'] == 0
  assert sum(found.counts[pool]['problems'] for pool in batches.POOLS) == 30 - long
  (words,) = [line for line in said if 'left out' in line]
  assert f'left out {long} examples longer than data.row_tokens = 32 (' in words
  assert all(f'{pool} {count}' in words for pool, count in dropped.items() if count)
  assert found.max_prompt_tokens + found.max_response_tokens <= 2 * 32
  seen = [
    len(tokens) for pool in ('sft', 'validation') for tokens, _, _ in segments(found.folder, pool)
  ]
  assert max(seen) <= 32


def test_reading_prepared_data_needs_neither_seqio_nor_a_generator(folder):
  code = f"""
import sys
from scaling.data import batches, pools, tasks
from scaling.rewards import verifiers
batches.read(batches.packed({str(folder)!r}, 'sft'), batches.picked(4, 0, 0, 4))
batches.problems({str(folder)!r}, 'test')
print(sorted({{'seqio', 'tensorflow', 'reasoning_gym'}} & set(sys.modules)))
"""
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert done.stdout.strip() == '[]', done.stderr


def test_seqio_has_one_importer_and_it_is_lazy():
  for path in (ROOT / 'scaling').rglob('*.py'):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
      names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
      names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
      heavy = {name.split('.')[0] for name in names} & {'seqio', 'tensorflow'}
      assert not heavy or path.name == 'tasks.py', path
      assert not heavy or node not in tree.body, 'at the top of a module'


def test_preparing_says_nothing_on_its_own(tmp_path):
  code = f"""
import sys
from scaling.data import batches, tasks
spec = batches.DataSpec('chain_sum', (), 'short', 'arithmetic', 128, 0, 5, 0, 0, 0, 0)
tasks.prepare(spec, {str(tmp_path / 'data')!r})
assert 'tensorflow' not in sys.modules  # one task needs no mixing
mixed = spec._replace(sft_tasks=('gcd(max_value=60)',))
tasks.prepare(mixed, {str(tmp_path / 'mixed')!r})
assert 'tensorflow' in sys.modules
"""
  done = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
  assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_loss_on_all_learns_prompts_too(folder, tmp_path):
  counts = {'pretrain': 0, 'pretrain_tasks': (), 'sft_rates': (0.5,)}
  counts['sft_tasks'] = ('chain_sum(min_terms=5, max_terms=5, min_digits=2, max_digits=2)',)
  given = SPEC._replace(**counts, loss_on='all')
  tasks.prepare(given, tmp_path / 'data')
  drawn = pools.draw(given)
  drafts = [*drawn['sft'], *drawn['sft 0']]
  found = collections.Counter(
    (tuple(tokens.tolist()), tuple(mask.tolist()))
    for tokens, _, mask in segments(tmp_path / 'data', 'sft')
  )
  assert found == collections.Counter(expected(drafts, True)) and len(drafts) == 450
  assert batches.problems(tmp_path / 'data', 'sft') == [draft.problem for draft in drafts]
  counts = batches.load(tmp_path / 'data').counts
  assert counts['sft']['loss_tokens'] == counts['sft']['tokens'] - 450
  plain, mixed = batches.load(folder), batches.load(tmp_path / 'data')
  assert counts['validation'] == plain.counts['validation']  # what is measured stays the same

  # so does the room for its prompts, of 4 terms at most; a stage has more for what is mixed in
  assert (mixed.max_prompt_tokens, mixed.max_response_tokens) == (
    plain.max_prompt_tokens, plain.max_response_tokens
  )  # fmt: skip
  longest = [draft.problem for draft in drawn['sft 0'] if len(draft.problem.prompt) == 15][:2]
  assert sample.longest_prompt(mixed) == 12 and sample.longest_prompt(mixed, longest) == 15
  assert sample.prompt_width(mixed, longest) == 16


def test_contamination_is_reported(tmp_path):
  words = 'a farmer has some apples and gives away as many of them as he likes'
  rows = [{'question': f'{words} {i}', 'answer': f'{i}\n#### {i}'} for i in range(2)]
  rows += [{'question': f'How many is {i}?', 'answer': f'{i}\n#### {i}'} for i in range(30)]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  test = tmp_path / 'b.jsonl'
  test.write_text(json.dumps({'question': words, 'answer': '3\n#### 3'}))
  given = SPEC._replace(
    task=f'jsonl(path={str(path)!r}, test_path={str(test)!r})', style='full', vocab='bytes',
    pretrain_tasks=(), pretrain=0, sft=None, rl=4, validation=0, test=None, contamination='drop',
  )  # fmt: skip
  said = []
  tasks.prepare(given, tmp_path / 'data', said.append)
  assert '2 examples have 13 words in a row of a held-out prompt' in said
  report = json.loads((tmp_path / 'data' / 'contamination.json').read_text())
  index = json.loads((tmp_path / 'data' / 'data.json').read_text())['contamination']
  assert {key: report[key] for key in index} == index
  assert sum(index['found'].values()) == 2 and (index['ngram'], index['prompts']) == (13, 1)
  assert sorted(one['where'] for one in report['examples']) == [f'{path}:{at}' for at in (1, 2)]


def test_what_is_too_long_for_a_row_is_no_contamination(tmp_path):
  """With a BPE of the study's own too, for which what fits is seen only once it is trained."""
  words = ' '.join(f'w{i}' for i in range(13))
  rows = [{'question': f'what is {i}?', 'answer': f'{i}\n#### {i}'} for i in range(60)]
  long = {'question': f'{words} {"and so on " * 200}', 'answer': '1\n#### 1'}
  path, test = tmp_path / 'a.jsonl', tmp_path / 'b.jsonl'
  path.write_text('\n'.join(map(json.dumps, [*rows, long])))
  test.write_text(json.dumps({'question': words, 'answer': '3\n#### 3'}))
  spec = SPEC._replace(
    task=f'jsonl(path={str(path)!r}, test_path={str(test)!r})', style='full', vocab='bpe(262)',
    pretrain_tasks=(), pretrain=0, sft=None, rl=4, validation=0, test=None, long_examples='drop',
  )  # fmt: skip
  tasks.prepare(spec, tmp_path / 'data')
  counts = batches.load(tmp_path / 'data').counts['sft']
  assert (counts['problems'], counts['dropped']) == (56, 1)
  path.write_text('\n'.join(map(json.dumps, [*rows, long | {'question': f'so {words}'}])))
  with pytest.raises(BadInput, match=r'a\.jsonl:61: 13 words in a row of a held-out prompt'):
    tasks.prepare(spec, tmp_path / 'other')


def test_several_responses_of_a_prompt_are_packed(tmp_path):
  rows = [{'prompt': f'q {i}', 'response': 'r' * (j + 1)} for i in range(30) for j in range(3)]
  path = tmp_path / 'a.jsonl'
  path.write_text('\n'.join(map(json.dumps, rows)))
  given = SPEC._replace(
    task=f'responses(path={str(path)!r}, per_prompt=2)', style='full', vocab='bytes',
    pretrain_tasks=(), pretrain=0, sft=20, rl=0, validation=5, test=5,
  )  # fmt: skip
  tasks.prepare(given, tmp_path / 'data')
  data = batches.load(tmp_path / 'data')
  assert (data.counts['sft']['problems'], data.counts['sft']['responses']) == (20, 40)
  problems = batches.problems(data.folder, 'sft')
  assert [problem.solution for problem in problems] == ['r'] * 20
  found = {data.vocab.decode(tokens) for tokens, _, _ in segments(data.folder, 'sft')}
  assert found == {problem.prompt + text for problem in problems for text in ('r', 'rr')}
  assert len(list(segments(data.folder, 'validation'))) == 5


def test_pools_whose_prompts_are_unlike_the_test_problems(tmp_path):
  """One-digit sums of two terms are 200: the pools drawn first take them all."""
  few, rng = [7, 9, 7, 9] * 50, np.random.default_rng(0)
  alike = {'test': np.array(few), 'rl': rng.choice([7, 9], 300), 'sft': np.array([9] * 300)}
  assert tasks.unlike(alike) == {'sft': {'at_most': 7, 'test': 0.5, 'there': 0.0}}
  assert (
    tasks.unlike({'test': np.array([7, 9]), 'sft': np.array([9] * 300)}) == {}
  )  # too few to say
  assert tasks.unlike({'sft': np.array(few)}) == {}
  spec = 'chain_sum(min_terms=2,max_terms=2,min_digits=1,max_digits=2)'
  given = SPEC._replace(
    task=spec, pretrain=0, pretrain_tasks=(), sft=300, rl=300, validation=100, test=100
  )
  tasks.prepare(given, tmp_path / 'data')
  data = batches.load(tmp_path / 'data')
  lengths = {
    pool: np.array([len(data.vocab.prompt(p.prompt)) for p in batches.problems(data.folder, pool)])
    for pool in ('test', 'rl', 'sft')
  }
  assert set(data.unlike) == {'rl', 'sft'}
  for pool, apart in data.unlike.items():
    gaps = [np.mean(lengths['test'] <= n) - np.mean(lengths[pool] <= n) for n in range(20)]
    at_most = int(np.argmax(np.abs(gaps)))
    parts = (np.mean(lengths[name] <= at_most) for name in ('test', pool))
    assert apart == dict(zip(('at_most', 'test', 'there'), (at_most, *parts)))
