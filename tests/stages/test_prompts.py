"""Problems beyond the given ones: what becomes of each candidate, and a bank drawn of them."""

import json
import shutil

import pandas as pd
import pytest

from scaling import compute, files, processes, records, sharding, study
from scaling.data import attempts, batches, new_prompts
from scaling.data.vocab import VOCABS
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.rewards import verifiers
from scaling.stages import prompts, sample
from scaling.stages import stage as stages
from tests import tiny


@pytest.fixture(scope='module')
def workdir(tiny_workdir, tmp_path_factory):
  return shutil.copytree(tiny_workdir, tmp_path_factory.mktemp('prompts') / 'w')


def setting_of(workdir):
  mesh = sharding.make_mesh()
  about = records.environment(mesh)
  return stages.Setting(
    workdir, mesh, transformer.Mechanics(), 1e9, about, lambda part, words: None
  )


def made(workdir, **changed):
  """A stage `prompts` on the last branch, with its folder."""
  branch = [s for s in study.expand(tiny.get_config()) if s.kind == 'sft' and s.recipe['measure']][
    -1
  ]
  common = {key: branch.recipe[key] for key in ('seed', 'preset', 'model', 'data', 'optimizer')}
  recipe = common | dict(
    source='evolve', pool='rl', problems=4, draws=3, n=4, valid='verifier', agreement=0.5,
    pass_low=0.0, pass_high=1.0, temperature=1.0, response_tokens=18,
  )  # fmt: skip
  return begun(workdir, stages.make('prompts', branch.id, 'prompts', recipe | changed))


def begun(workdir, stage):
  folder = stages.folder(workdir, stage.id)
  folder.mkdir()
  files.write_json(folder / 'stage.json', stage._asdict())
  return stage


def given(workdir, stage):
  return batches.problems(stages.data_folder(workdir, stage.recipe['data']), 'rl')[:4]


def scripted(monkeypatch, written=(), answers=None):
  """In place of the policy: `written` for each solution, answers(prompt) -> texts, or cut off."""
  spent = compute.empty()

  def ask(texts, n, limit, salt, words):
    if salt in prompts.SOURCES:
      return [[(text, 7.0) for text in written] for _ in texts]
    return [[(text, 5.0) for text in answers(prompt)] for prompt in texts]

  asker = prompts.Asker(ask, lambda: spent)
  monkeypatch.setattr(prompts, 'asker', lambda *args: asker)


def test_evolved_problems_are_new_verified_and_sampled(workdir, monkeypatch):
  stage, told = made(workdir), iter([True])
  monkeypatch.setattr(processes, 'preempted', lambda: next(told, False))
  with pytest.raises(processes.Preempted):
    prompts.run(setting_of(workdir), stage)
  prompts.run(setting_of(workdir), stage)
  done = stages.done(workdir, stage.id)
  found = stages.problems(workdir, {'prompts': stage.id, 'problems': 100})
  about = done['prompts']
  assert len(found) == about['kept'] >= 4 and about['candidates'] <= 12
  parts = ('cut', 'known', 'invalid', 'long', 'easy', 'hard', 'kept')
  assert about['candidates'] == sum(about[name] for name in parts)
  folder = stages.data_folder(workdir, stage.recipe['data'])
  pools = {p.prompt for pool in batches.POOLS for p in batches.problems(folder, pool)}
  assert not pools & {p.prompt for p in found} and len({p.id for p in found}) == len(found)
  assert all(verifiers.verify(p, p.solution).correct for p in found)
  table = pd.read_parquet(stages.folder(workdir, stage.id) / 'problems.parquet')
  assert set(table.columns) == {*batches.Problem._fields, *prompts.COLUMNS}
  assert set(table['given']) <= {p.id for p in given(workdir, stage)}
  spent = compute.total(done['ledger'])
  assert spent > 0 and table['flops'].sum() <= spent * (1 + 1e-9)

  recipe = {k: v for k, v in stage.recipe.items() if k in ('seed', 'preset', 'model', 'data')}
  bank = stages.make('sample', stage.parent, 'bank', recipe | dict(
    optimizer=stage.recipe['optimizer'], prompts=stage.id, pool='rl', problems=4, n=4,
    temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, stop=[], response_tokens=18, block_prompts=2,
    block_samples=4, block_rows=3, prompt_chunk=0, measure=False,
  ))  # fmt: skip
  sample.run(setting_of(workdir), begun(workdir, bank))
  from analysis import tables

  drawn = tables.stage_bank(workdir, bank.id, ['problem', 'prompt'])
  assert drawn['problem'].unique().tolist() == [p.id for p in found[:4]]
  assert len(drawn) == 16 and stage.id in stages.inputs(bank)


def test_what_becomes_of_what_a_policy_writes(workdir, monkeypatch):
  """A new one, one twice, one of a pool, one that is none of the task, one cut off."""
  known = given(workdir, made(workdir, seed=5))[1].prompt
  script = ['11+22-33=', '11+22-33=', known, '11*22=', '10+20+30=', None]
  right = {'11+22-33=': '#0', '10+20+30=': '#60'}
  scripted(monkeypatch, script, lambda text: [right[text], right[text], '#9', None])
  stage = made(workdir, source='reverse', problems=1)
  prompts.run(setting_of(workdir), stage)
  about = stages.done(workdir, stage.id)['prompts']
  assert (about['candidates'], about['cut'], about['known'], about['invalid']) == (6, 1, 2, 1)
  table = pd.read_parquet(stages.folder(workdir, stage.id) / 'problems.parquet')
  assert table['prompt'].tolist() == ['11+22-33=', '10+20+30=']
  assert table['answer'].tolist() == ['0', '60'] and (table['pass_rate'] == 0.5).all()
  assert (table['flops'] == 7 + 4 * 5).all() and about['pass_rate'] == 0.5
  entry = json.loads(table['entry'][0])
  assert entry['metadata']['expression'] == '11 + 22 - 33'


def test_a_majority_may_be_wrong_and_must_agree_enough(workdir, monkeypatch):
  script = ['11+22-33=', 'what is love', '10+20+30=']
  said = {'11+22-33=': ['#5', '#5', '#5', '#0'], 'what is love': ['#1', '#2', None, '#3']}
  scripted(monkeypatch, script, lambda text: said.get(text, ['#60'] * 4))
  stage = made(workdir, source='reverse', valid='majority', problems=1)
  prompts.run(setting_of(workdir), stage)
  found = stages.problems(workdir, {'prompts': stage.id, 'problems': 9})
  assert [(p.prompt, p.answer) for p in found] == [('11+22-33=', '5'), ('10+20+30=', '60')]
  assert verifiers.verify(found[0], '#5').correct and not verifiers.verify(found[0], '#0').correct
  assert stages.done(workdir, stage.id)['prompts']['invalid'] == 1


def test_difficulty_is_targeted_by_the_pass_rate(workdir, monkeypatch):
  answers = {'10+20+30=': ['#60'] * 4, '11+22-33=': ['#0', '#1', '#1', '#1'], '1+1+1=': ['#9'] * 4}
  scripted(monkeypatch, list(answers), answers.get)
  stage = made(workdir, source='reverse', problems=1, pass_low=0.1, pass_high=0.9)
  prompts.run(setting_of(workdir), stage)
  (problem,) = stages.problems(workdir, {'prompts': stage.id, 'problems': 9})
  about = stages.done(workdir, stage.id)['prompts']
  assert problem.prompt == '11+22-33=' and (about['easy'], about['hard']) == (1, 1)
  with pytest.raises(BadInput, match=r'of 3 candidates none is kept .*1 easy, 2 hard'):
    harder = made(workdir, source='reverse', problems=1, pass_low=0.5, pass_high=0.9)
    prompts.run(setting_of(workdir), harder)


def test_a_pass_rate_is_of_the_samples_with_a_verdict(workdir, monkeypatch):
  script = {'10+20+30=': ['#60', '#9', '#8', None], '11+22-33=': ['#7'] * 4}
  scripted(monkeypatch, list(script), script.get)
  stage = made(workdir, source='reverse', problems=1, seed=3)
  status = {'#8': 'timeout', '#7': 'timeout'}
  late = lambda text: verifiers.Verdict(text == '#60', text[1:], status.get(text, 'ok'))
  monkeypatch.setattr(
    prompts.verifiers, 'verify_all', lambda _, said: [[late(x) for x in texts] for texts in said]
  )
  prompts.run(setting_of(workdir), stage)
  about = stages.done(workdir, stage.id)['prompts']
  assert about['pass_rate'] == 1 / 3 and (about['kept'], about['invalid']) == (1, 1)


def test_problems_are_shown_to_be_told_of_one_more(workdir, monkeypatch):
  shown = []

  def ask(texts, n, limit, salt, words):
    shown.extend(texts)
    return [[(' 1+2+3=\n', 7.0)] for _ in texts]

  stage = made(workdir, source='instruct', seed=9)
  problems = given(workdir, stage)
  _, data = stages.load_data(workdir, stage.recipe)
  with pytest.raises(BadInput, match=r"'instruct' asks with 'H', which config.data.vocab"):
    prompts.written(prompts.Asker(ask, None), stage.recipe, data, problems)
  data = data._replace(vocab=VOCABS['bytes'])
  data.spec['row_tokens'] = 999  # for the instruction's own words
  found, _ = prompts.written(prompts.Asker(ask, None), stage.recipe, data, problems)
  assert {c.text for c in found} == {'1+2+3='} and found[0].problem.answer == '6'
  for text, problem in zip(shown, problems, strict=True):
    assert f'Problem 1: {problem.prompt}' in text and text.count('Problem ') == prompts.SHOTS


def test_a_solution_is_shown_in_the_words_that_taught_it(workdir):
  asked = []

  def ask(texts, n, limit, salt, words):
    asked.extend(texts)
    return [[(None, 1.0)] * n for _ in texts]

  stage = made(workdir, source='reverse', seed=7)
  problems = given(workdir, stage)
  _, data = stages.load_data(workdir, stage.recipe)
  found, cut = prompts.written(prompts.Asker(ask, None), stage.recipe, data, problems)
  assert not found and cut == 3 * len(asked)
  assert asked and set(asked) <= {attempts.backward('short', p.solution) for p in problems}


@pytest.mark.parametrize(
  'run, says',
  [
    ("rft(prompts='evolv')", "prompts is 'evolv'; nearest: evolve"),
    ("rft(prompts='reverse')", 'config.data.reversed 0'),
    ("rft(prompts='instruct')", "config.data.style 'short': set 'full' or 'chat'"),
    ("human(prompts='evolve')", 'samples no new problem'),
    ("rft(prompts='evolve', pass_low=0.9, pass_high=0.1)", 'swap them'),
    ("rft(prompts='evolve', pass_low=2.0)", 'pass_low is 2.0: it must be in'),
  ],
)
def test_runs_that_cannot_be(run, says):
  c = tiny.get_config()
  c.synthetic.sizes, c.synthetic.problems, c.synthetic.tokens = ('25k',), 8, 2048
  c.synthetic.runs = (run,)
  with pytest.raises(BadInput, match=says):
    study.expand(c)
  c.data.task, c.data.style, c.synthetic.runs = 'gcd', 'full', ("rft(prompts='evolve')",)
  with pytest.raises(BadInput, match=r"gcd has no grammar .* valid='majority'"):
    study.expand(c)


def test_a_run_on_new_prompts_draws_its_bank_of_them():
  c = tiny.get_config()
  c.synthetic.sizes, c.synthetic.problems, c.synthetic.tokens = ('25k',), 8, 2048
  c.synthetic.runs = ("rft(prompts='evolve', mix=0.0)",)
  tree = {s.kind: s for s in study.expand(c)}
  assert tree['synthesize'].recipe['prompts'] == tree['prompts'].id
  bank = next(s for s in study.expand(c) if s.id == tree['synthesize'].recipe['bank'])
  assert bank.recipe['prompts'] == tree['prompts'].id
  assert tree['prompts'].parent == bank.parent
  assert new_prompts.check(c.data.task) is None
