"""The tree of a study, and that a run cut off anywhere ends with the bits of one that was not."""

import errno
import itertools
import json
import os
import signal
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import orbax.checkpoint as ocp
import pandas as pd
import pytest

from scaling import compute, config, plan, processes, sharding, study
from scaling.errors import BadInput
from scaling.stages import stage as stages
from tests import tiny

ROOT = Path(__file__).parents[1]

# Kills itself, the hard way, at the moment named: before the checkpoint of (kind, step), between
# its curve and its state, while the state is written, or before a bank's shard of that number.
KILLED = """
import os, signal, sys
from scaling import bank, checkpoint, study
from scaling.stages import stage as stages
from tests import tiny
workdir, when, kind, number = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
save, write, checkpoint_save = stages.save, bank.write, checkpoint.save
def save_or_die(out, state, meta, curve):
  here = out.stage.kind == kind and int(state.step) == number
  if here and when == 'before':
    die()
  if here and when == 'between':
    checkpoint.save = lambda *a: die()
  save(out, state, meta, curve)
  if here and when == 'within':
    die()
def write_or_die(*args):
  write_or_die.count += 1
  if kind == 'bank' and write_or_die.count == number:
    die()
  write(*args)
write_or_die.count = 0
stages.save, bank.write = save_or_die, write_or_die
config = tiny.get_config()
config.checkpoint_seconds = float(sys.argv[5])
study.run(config, workdir)
"""


def _run(workdir, cache, when='never', kind='none', number=0, checkpoint_seconds=1e-9):
  done = subprocess.run(
    [sys.executable, '-c', KILLED, str(workdir), when, kind, str(number), str(checkpoint_seconds)],
    cwd=ROOT, capture_output=True, text=True,
    env=os.environ | {'JAX_PLATFORMS': 'cpu', 'JAX_COMPILATION_CACHE_DIR': str(cache),
                      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0'},
  )  # fmt: skip
  expected = 0 if when == 'never' else -signal.SIGKILL
  assert done.returncode == expected, done.stderr[-3000:]


def _result(workdir, stage):
  """All that a stage left, but the seconds it took."""
  folder = stages.folder(workdir, stage.id)
  done = json.loads((folder / 'done.json').read_text())
  done.pop('seconds')
  done['cell'].pop('seconds')
  tables = {}
  for path in sorted(folder.rglob('*.parquet')):
    table = pd.read_parquet(path)
    tables[str(path.relative_to(folder))] = table.drop(columns='seconds', errors='ignore')
  arrays = None
  if stage.kind != 'sample':
    with ocp.CheckpointManager(folder / 'checkpoints') as manager:
      step = manager.latest_step()
      arrays = manager.restore(
        step, args=ocp.args.Composite(state=ocp.args.StandardRestore())
      ).state
  return done, tables, arrays


def _same(a, b):
  if isinstance(a, dict):
    assert a.keys() == b.keys()
    for key in a:
      _same(a[key], b[key])
  elif isinstance(a, list | tuple):
    assert len(a) == len(b)
    for x, y in zip(a, b):
      _same(x, y)
  elif isinstance(a, pd.DataFrame):
    pd.testing.assert_frame_equal(a, b, check_exact=True)
  elif a is not None and not isinstance(a, str):
    assert np.array_equal(np.asarray(a), np.asarray(b))
  else:
    assert a == b


@pytest.mark.slow
def test_killed_and_resumed_is_bit_for_bit_the_uninterrupted_run(tmp_path):
  """SFT, RL (mid-segment, with minibatches) and a bank, each killed; ledger and curves compared."""
  cache, whole, cut = tmp_path / 'cache', tmp_path / 'whole', tmp_path / 'cut'
  _run(whole, cache, checkpoint_seconds=1e9)
  _run(cut, cache, 'before', 'sft', 3)
  _run(cut, cache, 'between', 'sft', 5)
  _run(cut, cache, 'within', 'sft', 8)
  _run(cut, cache, 'between', 'rl', 4)
  _run(cut, cache, 'before', 'bank', 2)
  _run(cut, cache)
  tree = study.expand(tiny.get_config())
  assert {s.kind for s in tree} == {'pretrain', 'sft', 'rl', 'sample'}
  for stage in tree:
    _same(_result(whole, stage), _result(cut, stage))
  before = {p: p.stat().st_mtime_ns for p in cut.rglob('done.json')}
  _run(cut, cache)  # all is done: nothing is run again
  assert before == {p: p.stat().st_mtime_ns for p in cut.rglob('done.json')}


def test_a_branch_shares_its_trunk_and_a_longer_sweep_the_shorter():
  short, long = tiny.get_config(), tiny.get_config()
  long.sft.tokens = (1024, 2048, 4096)
  ids = {s.id for s in study.expand(short)}
  assert ids < {s.id for s in study.expand(long)}
  kinds = [s for s in study.expand(long) if s.kind == 'sft']
  trunks = [s for s in kinds if s.recipe['end'] is None]
  branches = [s for s in kinds if s.recipe['end'] is not None]
  assert [s.recipe['stop'] for s in branches] == [4, 8, 16]
  for earlier, later in itertools.pairwise(trunks):
    assert later.parent == earlier.id and later.recipe['start'] == earlier.recipe['stop']
  for branch in branches:
    assert branch.recipe['stop'] - branch.recipe['start'] == branch.recipe['decay']
    assert {t.id: t.recipe['stop'] for t in trunks}[branch.parent] == branch.recipe['start']


def test_each_budget_of_unique_tokens_has_its_trunk_and_all_branches():
  c = tiny.get_config()
  whole = {s.id for s in study.expand(c)}
  c.sft.unique_tokens = (1024, 512)
  tree = study.expand(c)
  branches = [s for s in tree if s.kind == 'sft' and s.recipe['measure']]
  crossed = [(s.recipe['unique'], s.recipe['stop']) for s in branches]
  assert crossed == [(16, 4), (16, 8), (32, 4), (32, 8)]
  roots = {s.recipe['trunk']: s.recipe['unique'] for s in branches}
  assert sorted(roots.values()) == [16, 32]
  by_id = {s.id: s for s in tree}
  assert all(by_id[root].recipe['unique'] == unique for root, unique in roots.items())
  (first, *_) = [s for s in tree if s.kind == 'rl']
  assert by_id[first.parent].recipe['unique'] == 32 and by_id[first.parent].recipe['stop'] == 8
  assert '4 epochs at its end' in plan.describe(c, tree)
  shared = {s.id for s in tree} & whole
  assert {by_id[i].kind for i in shared} == {'pretrain'}


def test_all_is_crossed_with_each_budget_of_pretraining():
  one, two = tiny.get_config(), tiny.get_config()
  two.pretrain.tokens = (2048, 1024)
  single, tree = study.expand(one), study.expand(two)
  bases = [s for s in tree if s.kind == 'pretrain']
  assert [s.recipe['stop'] for s in bases if s.recipe['seed'] == bases[0].recipe['seed']] == [4, 8]
  assert all(s.parent is None for s in bases) and len(tree) == 2 * len(single)
  assert {s.id for s in single} < {s.id for s in tree}  # a study of one budget shares its stages
  assert bases[-1].label.endswith('2,048 pretrained: pretrain 8 steps')


def test_the_name_of_a_stage_follows_the_recipe_and_not_the_mechanics():
  base, mechanics, recipe = tiny.get_config(), tiny.get_config(), tiny.get_config()
  mechanics.mesh.data, mechanics.mechanics.microbatches, mechanics.checkpoint_seconds = 8, 2, 1.0
  recipe.sft.learning_rate = 1e-3
  ids = lambda c: [s.id for s in study.expand(c)]
  assert ids(base) == ids(mechanics)
  assert ids(base)[0] == ids(recipe)[0] and not set(ids(base)[1:]) & set(ids(recipe)[1:])


def test_a_setting_that_a_run_of_rl_does_not_read_makes_no_other_run():
  read = {  # by such a run
    'ppo': {'gamma': 0.9, 'gae_lambda': 0.8, 'value_clip': 0.5, 'critic_learning_rate': 1e-3},
    'grpo(turns=2)': {'environment': 'verdict'},
    'grpo(reward="judge 25k")': {'least_accuracy': 0.0, 'judge_by': 'words', 'judge_tokens': 9},
    'grpo(teacher="25k")': {'teacher_coef': 0.5},
    'grpo(kl_coef=0.1)': {'kl': 'k2', 'kl_in': 'reward'},
  }

  def made(runs, judge_by='words', given=True):
    c = tiny.get_config()
    c.data.attempts, c.model.sizes, c.rl.runs = 0.5, ('25k',), tuple(runs)
    for name, value in [pair for fields in read.values() for pair in fields.items()]:
      of = c.dpo if name in c.dpo else c.rl
      of[name] = value if given else of[name]
    c.dpo.judge_by = judge_by
    return [s for s in study.expand(c) if s.kind == 'rl']

  plain = made(['grpo'], 'verdict', given=False)
  assert [s.id for s in made(['grpo'])] == [s.id for s in plain]
  for stage in made(read):
    for name, value in read[stage.recipe['called']].items():
      found = stage.recipe[name]
      assert found == value or found / value == stage.recipe['learning_rate'] / 1e-4, name
  (judged, *_) = made(['grpo(reward="judge 25k")'], 'verdict')
  assert judged.recipe['judge_tokens'] == plain[0].recipe['judge_tokens'] != 9


def test_planned_flops_bound_and_resemble_what_training_costs(tmp_path):
  """The plan counts full rows; the same counts through the ledger's formula agree."""
  stage = next(s for s in study.expand(tiny.get_config()) if s.kind == 'sft')
  steps = stage.recipe['stop'] - stage.recipe['start']
  tokens, context = compute.causal([16] * (2 * 8 * steps))
  by_hand = compute.train(stages.model(stage.recipe), tokens, context, 8 * steps, 32)
  planned = plan.estimate(stage)
  assert planned['executed'] == by_hand['executed']
  assert compute.total(planned) == pytest.approx(compute.total(by_hand), rel=0.01)


def test_sharing_against_independent_runs_by_hand():
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  tree = study.expand(c)
  cost = {s.id: compute.total(plan.estimate(s)) for s in tree}
  step = {
    s.kind: cost[s.id] / (s.recipe['stop'] - s.recipe['start']) for s in tree if s.kind != 'sample'
  }
  planned, alone = plan.sharing(tree)
  # budgets of 4 and 8 steps, decaying over 1 and 2: a trunk of 6 and branches of 1 and 2
  assert planned == pytest.approx(4 * step['pretrain'] + (6 + 1 + 2) * step['sft'])
  assert alone == pytest.approx(8 * step['pretrain'] + (4 + 8) * step['sft'])


@pytest.mark.parametrize(
  'make, says',
  [
    (lambda d: (d / 'notes.txt').write_text('x'), 'not a Postscale workdir'),
    (lambda d: (d / 'version.json').write_text('{"format": 99}'), 'format 99'),
    (lambda d: (d / 'version.json').write_text('{"format'), 'write {"format": 1} into it where'),
    (lambda d: (d / 'version.json').write_text('[]'), 'write {"format": 1} into it where'),
  ],
)
def test_a_workdir_that_cannot_be_used_is_refused_by_the_plan_too(tmp_path, make, says):
  make(tmp_path)
  for check in (study.open_workdir, _check_here):
    with pytest.raises(BadInput, match=says):
      check(tmp_path)


def _check_here(workdir, **changes):
  c = tiny.get_config()
  c.update_from_flattened_dict({key.replace('__', '.'): value for key, value in changes.items()})
  study.check_here(c, study.expand(c), workdir)


def test_a_workdir_in_whose_place_there_is_a_file_is_refused(tmp_path):
  (tmp_path / 'file').write_text('')
  for workdir in (tmp_path / 'file', tmp_path / 'file' / 'workdir'):
    for check in (study.open_workdir, _check_here):
      with pytest.raises(BadInput, match=r'cannot be read \(Not a directory\)'):
        check(workdir)


def test_a_plan_checks_the_mesh_where_there_are_devices_for_it(tmp_path):
  _check_here(tmp_path / 'w')
  with pytest.raises(BadInput, match=r'config.rl.prompts is 4: it must be a multiple of 8'):
    _check_here(tmp_path / 'w', mesh__data=8)
  _check_here(tmp_path / 'w', mesh__data=16)
  assert not (tmp_path / 'w').exists()


def test_two_runs_do_not_share_a_workdir_at_once(tmp_path, capsys):
  left = study.open_workdir(tmp_path / 'w') / '.report.html.1.partial'
  left.write_text('')
  os.utime(left, (0, 0))
  with study.lock(tmp_path / 'w'):
    assert not left.exists()
    c = tiny.get_config()
    c.mesh.data = 0
    with pytest.raises(BadInput, match='another run is using it'):
      study.run(c, tmp_path / 'w')
  assert capsys.readouterr().out.startswith('on 2 of 8 devices: for 8 make')


def test_processes_whose_devices_are_not_all_taken_are_told_what_would_take_them(monkeypatch):
  c = tiny.get_config()
  c.mesh.data = 0
  monkeypatch.setattr(processes, 'count', lambda: 2)
  with pytest.raises(
    BadInput, match=r'has 2 devices, and the 2 .* \(on 2 of 8 devices: for 8 make'
  ):
    study.check_mesh(c, [], sharding.make_mesh(data=2))


@pytest.mark.parametrize(
  'name, number', [('fcntl.flock', errno.ENOLCK), ('builtins.open', errno.EACCES)]
)
def test_a_workdir_that_cannot_be_locked_is_refused_in_the_system_s_words(
  tmp_path, monkeypatch, name, number
):
  workdir = study.open_workdir(tmp_path / 'w')

  def refuse(*args):
    raise OSError(number, os.strerror(number))

  monkeypatch.setattr(name, refuse)
  with pytest.raises(BadInput, match=rf'cannot be opened and locked \({os.strerror(number)}\)'):
    with study.lock(workdir):
      pass


def test_a_workdir_whose_making_was_cut_off_can_be_used(tmp_path):
  (tmp_path / '.version.json.1.partial').write_text('{"for')
  assert study.open_workdir(tmp_path) == tmp_path


def test_a_search_is_checked_with_the_plan():
  c = config.default()
  c.search.policies = ('25k',)
  for strategy, says in (
    ('beem', "has 'beem': it must be one of beam"),
    ('beam', 'beam: it needs a scorer: set config.search.scorer'),
    ('many_shot(width=3)', r'has many_shot\(width=…\): many_shot takes samples'),
    ('revision', 'revision: config.data.attempts is 0'),
  ):
    c.search.strategies = (strategy,)
    with pytest.raises(BadInput, match=says):
      study.expand(c)


def test_lengths_that_cut_the_gold_response_off_are_said_once_each(capsys):
  c = tiny.get_config()
  c.rl.runs = ('grpo(response_tokens=9)', 'rloo(response_tokens=9)', 'grpo(response_tokens=11)')
  c.search.strategies, c.search.response_tokens = ('revision',), 7
  study._note(c, types.SimpleNamespace(max_response_tokens=10, unlike={}))
  said = capsys.readouterr().out.splitlines()
  assert [line.partition(',')[0] for line in said] == [
    'note: config.rl.response_tokens is 9',
    'note: config.search.response_tokens is 7',
  ]


def test_a_pool_that_is_unlike_the_test_problems_is_said(capsys):
  apart = {'sft': {'at_most': 7, 'test': 0.5, 'there': 0.03}}
  study._note(tiny.get_config(), types.SimpleNamespace(max_response_tokens=2, unlike=apart))
  said = capsys.readouterr().out
  assert said.startswith('note: 50% of the test prompts have at most 7 tokens, and 3% of those of')


def test_reward_models_stand_beside_the_last_branch():
  c = config.default()
  c.data.reward_problems = 40
  c.scorers.objectives, c.scorers.sizes = ('outcome', 'process'), ('25k', '150k')
  c.scorers.policies = ('150k',)
  c.search.strategies, c.search.policies = ('dvts(width=2)', 'many_shot'), ('150k',)
  c.search.scorer = 'process 25k'
  tree = {s.id: s for s in study.expand(c)}
  kinds = lambda kind: [s for s in tree.values() if s.kind == kind]
  scorers = kinds('preference')
  assert len(scorers) == len(kinds('score')) == 4 and len(kinds('rollouts')) == 1
  searched, unscored = kinds('search')
  assert stages.inputs(unscored) == [searched.parent]  # a reward model that fails leaves it alone
  follows = tree[searched.recipe['scorer']]
  assert follows.recipe['objective'] == 'process' and follows.recipe['preset'] == '25k'
  assert follows.recipe['model']['head'] == 'scalar'
  for s in scorers:
    bank = tree[s.recipe['bank']]
    assert bank.recipe['pool'] == 'reward' and bank.recipe['preset'] == '150k'
    assert bank.parent == searched.parent and not bank.recipe['measure']
    assert (s.recipe['labels'] is None) == (s.recipe['objective'] == 'outcome')
  for s in kinds('score'):
    assert tree[s.parent].parent == searched.parent and tree[s.parent].recipe['pool'] == 'test'
  order = list(tree)
  for s in tree.values():
    assert all(order.index(i) < order.index(s.id) for i in stages.inputs(s))
