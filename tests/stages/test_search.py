"""The stage of a search: what it leaves, and that being cut off changes nothing."""

import shutil

import jax
import pandas as pd
import pytest

from analysis import strategies
from scaling import checkpoint, compute, files, records, sharding, study, train_step
from scaling.data import batches, tasks
from scaling.errors import BadInput
from scaling.model.transformer import Mechanics
from scaling.search import outcome
from scaling.stages import preference, search
from scaling.stages import stage as stages
from tests import tiny


class CutOff(Exception):
  pass


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
  """(workdir, an SFT branch): as if trained on data with attempts; its parameters are random."""
  c = tiny.get_config()
  c.data.attempts, c.data.row_tokens = 0.5, 64
  c.data.sft_problems, c.data.rl_problems, c.data.validation_problems = 40, 0, 4
  c.pretrain.tasks, c.pretrain.tokens, c.sft.tokens, c.rl.updates = (), (), (2048,), ()
  c.sample.n, c.sample.block_samples = 4, 4
  branch = [s for s in study.expand(c) if s.kind == 'sft'][-1]
  workdir, recipe, mesh = tmp_path_factory.mktemp('search'), branch.recipe, sharding.make_mesh()
  tasks.prepare(study.data_spec(c), stages.data_folder(workdir, recipe['data']))
  folder, cfg = stages.folder(workdir, branch.id), stages.model(recipe)
  state = train_step.make_init(cfg, stages.optimizer(recipe), mesh)(jax.random.key(0))
  with checkpoint.Manager(folder / 'checkpoints') as manager:
    checkpoint.save(manager, 0, state, {})
  files.write_json(folder / 'stage.json', branch._asdict())
  cell = records.cell_of_model(recipe, cfg) | {'pretrain_source': 'counted'}
  path = {kind: compute.empty() for kind in ('pretrain', 'sft', 'rl')}
  files.write_json(folder / 'done.json', {'outcome': 'ok', 'cell': cell, 'path': path})
  return workdir, branch


def make(branch, strategy, **more):
  recipe = {name: branch.recipe[name] for name in ('seed', 'preset', 'model', 'data', 'optimizer')}
  recipe |= dict(
    strategy=strategy, budgets=[1, 2], scorer=None, temperature=1.0, response_tokens=18,
    problems=4, runs=2, options={},
  )  # fmt: skip
  return stages.make('search', branch.id, strategy, recipe | more)


def run(workdir, stage, progress=lambda part, words: None):
  mesh = sharding.make_mesh()
  setting = stages.Setting(workdir, mesh, Mechanics(), 30.0, records.environment(mesh), progress)
  stages.folder(workdir, stage.id).mkdir(parents=True, exist_ok=True)
  search.run(setting, stage)
  folder = stages.folder(workdir, stage.id)
  done = stages.done(workdir, stage.id)
  found = (pd.read_parquet(folder / f'{name}.parquet') for name in ('outcomes', 'records'))
  return (*found, done['ledger'])


@pytest.fixture(scope='module')
def searched(trained):
  """A search that ran through, in parts of three problems."""
  workdir, branch = trained
  stage = make(branch, 'self_verification')
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(search, 'PART', 3)
    return stage, run(workdir, stage)


def test_outcomes_and_records_hold_every_problem_budget_and_run(searched, trained):
  stage, (outcomes, rows, ledger) = searched
  assert list(outcomes.columns) == list(strategies.OUTCOMES)
  assert len(outcomes) == 4 * 2 * 2
  assert not outcomes.duplicated(['problem', 'k', 'run']).any()
  folder, _ = stages.load_data(trained[0], stage.recipe)
  assert set(outcomes['problem']) == {p.id for p in batches.problems(folder, 'test')}
  assert (outcomes['samples'] == outcomes['k']).all() and (outcomes['scorer'] == '').all()
  assert list(rows.columns) == list(records.COLUMNS) and list(rows['k']) == [1, 2]
  for row in rows.itertuples():
    of = outcomes[outcomes['k'] == row.k]
    assert row.strategy == 'self_verification' and row.metric == 'accuracy'
    assert row.value == pytest.approx(of['value'].mean()) and row.problems == 4
    assert row.query_prefill_flops == pytest.approx(of['prefill_flops'].mean())
    assert row.query_decode_flops == pytest.approx(of['decode_flops'].mean())
  assert ledger['model']['decode'] == pytest.approx(outcomes['decode_flops'].sum())
  assert compute.total(ledger, 'executed') > compute.total(ledger, 'model') > 0


def test_runs_differ_and_a_larger_budget_begins_as_the_smaller(searched):
  _, (outcomes, _, _) = searched
  tokens = outcomes.set_index(['k', 'run', 'problem'])['decode_tokens'].unstack('problem')
  assert (tokens.loc[2, 0] != tokens.loc[2, 1]).any()
  assert (tokens.loc[2] > tokens.loc[1]).all().all()


def test_a_search_cut_off_and_resumed_is_the_same_search(searched, trained, monkeypatch):
  workdir, _ = trained
  stage, whole = searched
  monkeypatch.setattr(search, 'PART', 3)
  folder = stages.folder(workdir, stage.id)
  kept = folder.with_name('kept')
  folder.rename(kept)
  try:
    seen = []

    def progress(part, words):
      seen.append(part)
      if len(seen) == 3:
        raise CutOff

    with pytest.raises(CutOff):
      run(workdir, stage, progress)
    assert len(list((folder / 'parts').iterdir())) == 3
    assert stages.done(workdir, stage.id) is None
    resumed = run(workdir, stage, lambda part, words: seen.append(part))
    assert len(seen) == 2 * 2 * 2  # no part twice
    pd.testing.assert_frame_equal(resumed[0], whole[0], check_exact=True)
    pd.testing.assert_frame_equal(resumed[1], whole[1], check_exact=True)
    assert resumed[2] == whole[2]
  finally:
    shutil.rmtree(folder)
    kept.rename(folder)


@pytest.mark.parametrize(
  'strategy, options',
  [
    ('beam', dict(width=2)),
    ('dvts', dict(width=2)),
    ('rebase', {}),
    ('revision', {}),
    ('budget_forcing', dict(samples=2)),
    ('many_shot', {}),
  ],
)
def test_every_strategy_runs_on_a_model(trained, monkeypatch, strategy, options):
  workdir, branch = trained
  asked = []

  def step_scorer(setting, scorer):
    asked.append(scorer)
    longer = lambda wholes, ends: [[len(whole) / 64] * len(e) for whole, e in zip(wholes, ends)]
    flops = lambda length, cached, marks: float(length - cached)
    return outcome.Scorer(longer, flops), compute.empty

  monkeypatch.setattr(preference, 'step_scorer', step_scorer)
  by_score = strategy in search.WITH_SCORER
  budgets = [4] if by_score else [1]
  stage = make(branch, strategy, scorer='preference-1', options=options, budgets=budgets, runs=1)
  outcomes, rows, ledger = run(workdir, stage)
  assert asked == ['preference-1'] * by_score
  assert set(outcomes['scorer']) == {'preference-1' if by_score else ''}
  assert len(outcomes) == 4 and list(rows['strategy']) == [search.named(stage.recipe)]
  assert all(f'{name}={value}' in rows['strategy'][0] for name, value in options.items())
  assert (outcomes['decode_tokens'] > 0).all() and outcomes['value'].between(0, 1).all()
  assert (outcomes['scorer_flops'] > 0).all() == by_score
  assert ledger['model']['reward_model'] == outcomes['scorer_flops'].sum()
  if by_score:
    assert (outcomes['samples'] == 4).all()
    # the scorer reads the prompt and what was drawn, once
    read = outcomes['prefill_tokens'] + outcomes['decode_tokens']
    assert (outcomes['scorer_flops'] == read).all()


@pytest.mark.parametrize(
  'strategy, more, words',
  [
    ('bean', {}, r"config\.search\.strategies has 'bean': it must be one of beam, dvts"),
    ('beam', {}, r'beam: it needs a scorer: set config\.search\.scorer'),
    ('revision', dict(options=dict(choose='best')), r'revision: it needs a scorer'),
    ('many_shot', dict(options=dict(shots=2)), r'many_shot\(shots=…\): many_shot takes samples'),
    ('many_shot', dict(budgets=[2, 0]), r'many_shot: a budget of k = 0'),
    ('many_shot', dict(budgets=[]), r'config\.search\.budgets is empty'),
    ('beam', dict(options=dict(width='4')), r"beam\(width='4'\): width must be a whole number"),
    ('dvts', dict(options=dict(width=0)), r'dvts\(width=0\): width must be .* at least 1'),
    ('dvts', dict(options=dict(width=2), budgets=[2, 5]), r'has 5, .* multiple of width=2 of dvts'),
    ('rebase', dict(options=dict(balance=None)), r'balance=None\): balance must be a number, more'),
    ('rebase', dict(options=dict(balance=0)), r'balance must be a number, more than 0'),
    ('many_shot', dict(options=dict(samples=1.5)), r'samples=1.5\): samples must be a whole'),
    ('beam', dict(options=dict(choose='bset')), r"choose='bset'\): choose must be one of best, m"),
    ('beam', dict(options=dict(aggregate='max')), r"='max'\): aggregate must be one of la"),
    ('revision', dict(options=dict(chains=2)), r'has 1, .* not a multiple of chains=2 of revision'),
    ('budget_forcing', dict(options=dict(force='exactly')), r'force must be one of exact, most, l'),
    ('budget_forcing', dict(budgets=[17]), r'k = 17 tokens .*response_tokens is 18'),
    ('episodes', dict(options=dict(environment='hint')), r'environment must be one of verdict, hi'),
  ],
)  # fmt: skip
def test_bad_recipes_are_one_line(trained, strategy, more, words):
  with pytest.raises(BadInput, match=words):
    search.check(make(trained[1], strategy, **more).recipe)


def test_a_policy_that_never_saw_attempts_is_not_asked_to_revise(trained):
  stage = make(trained[1], 'revision')
  recipe = stage.recipe | {'data': stage.recipe['data'] | {'attempts': 0.0}}
  with pytest.raises(BadInput, match=r'revision: config\.data\.attempts is 0'):
    search.check(recipe)
  search.check(recipe | {'data': recipe['data'] | {'style': 'chat'}})  # in words, it may know


def test_a_prompt_too_long_for_the_positions_trained_is_one_line(trained):
  workdir, branch = trained
  stage = make(branch, 'many_shot', budgets=[9])
  with pytest.raises(BadInput, match=r'many_shot: prompts .* config\.data\.row_tokens is 64'):
    run(workdir, stage)
