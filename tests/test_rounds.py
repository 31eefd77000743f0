"""The rounds of config.dpo as stages: what each reads, and what is refused."""

import json

import pytest

from scaling import study
from scaling.errors import BadInput
from tests import tiny


def config(*feedback, **dpo):
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.data.attempts = 0.5
  c.dpo.feedback, c.dpo.sizes = feedback, ('25k',)
  c.dpo.problems, c.dpo.n, c.dpo.rows = 16, 4, 8
  for name, value in dpo.items():
    c.dpo[name] = value
  return c


def with_scorers(c, *objectives):
  c.data.reward_problems, c.scorers.n = 12, 4
  c.scorers.objectives, c.scorers.sizes, c.scorers.policies = objectives, ('25k',), ('25k',)
  return c


def tree_of(c):
  tree = study.expand(c)
  return tree, {s.id: s for s in tree}


def test_each_round_samples_the_policy_before_it_and_is_measured():
  tree, by_id = tree_of(config('verifier', 'likelihood', rounds=3))
  rounds = [s for s in tree if s.kind == 'dpo']
  assert [s.recipe['called'] for s in rounds] == ['verifier'] * 3 + ['likelihood'] * 3
  for chain in (rounds[:3], rounds[3:]):
    assert by_id[chain[0].parent].kind == 'sft' and by_id[chain[0].parent].recipe['measure']
    assert [s.parent for s in chain[1:]] == [s.id for s in chain[:-1]]
    draws = [by_id[s.recipe['bank']].recipe.get('round', 0) for s in chain]
    assert draws == [0, 1, 2]  # apart: see `branches.sampled`
    for s in chain:
      fresh = by_id[s.recipe['bank']]
      assert fresh.kind == 'sample' and fresh.parent == s.parent
      assert (fresh.recipe['pool'], fresh.recipe['problems'], fresh.recipe['n']) == ('rl', 16, 4)
      measured = [m for m in tree if m.kind == 'sample' and m.parent == s.id]
      pools = sorted(m.recipe['pool'] for m in measured)
      assert pools == (['test'] if s is chain[-1] else ['rl', 'test'])
  assert rounds[0].recipe['bank'] == rounds[3].recipe['bank']  # the same samples of the same branch
  assert len({s.id for s in rounds}) == 6


def test_a_reward_model_goes_on_in_each_round_or_stays():
  fresh = with_scorers(config('outcome 25k', rounds=3), 'outcome')
  tree, by_id = tree_of(fresh)
  rounds = [s for s in tree if s.kind == 'dpo']
  models = [by_id[s.recipe['scorer']] for s in rounds]
  assert [m.kind for m in models] == ['preference'] * 3
  assert by_id[models[0].parent].kind == 'sft'
  assert [m.parent for m in models[1:]] == [m.id for m in models[:-1]]
  for before, model in zip(rounds[:-1], models[1:], strict=True):
    bank = by_id[model.recipe['bank']]
    assert bank.parent == before.id and bank.recipe['pool'] == 'reward'
  order = [s.id for s in tree]
  assert all(order.index(m.id) < order.index(s.id) for m, s in zip(models, rounds, strict=True))
  tree, _ = tree_of(with_scorers(config('outcome 25k', rounds=3, fresh_scorer=False), 'outcome'))
  assert len({s.recipe['scorer'] for s in tree if s.kind == 'dpo'}) == 1


def test_judges_and_files(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps({'prompt': '1=', 'chosen': '#1', 'rejected': '#2'}))
  tree, _ = tree_of(config('self', 'judge 25k', 'pairs', rounds=2, pairs=str(path)))
  found = {}
  for s in tree:
    if s.kind == 'dpo':
      found.setdefault(s.recipe['called'], []).append(s)
  assert {name: len(chain) for name, chain in found.items()} == {
    'self': 2,
    'judge 25k': 2,
    'pairs': 1,
  }
  branch = found['self'][0].parent
  assert [s.recipe['grader'] for s in found['self']] == [None, None]  # whatever the policy is then
  assert [s.recipe['grader'] for s in found['judge 25k']] == [branch, branch]
  of_file = found['pairs'][0].recipe
  assert of_file['bank'] is None and of_file['pairs']['path'] == str(path)
  path.write_text(path.read_text().replace('#2', '#3'))
  again, _ = tree_of(config('pairs', pairs=str(path)))
  assert found['pairs'][0].id not in {s.id for s in again}  # another content, another stage


def test_a_setting_that_a_round_does_not_read_makes_no_other_round(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps({'prompt': '1=', 'chosen': '#1', 'rejected': '#2'}))
  made = lambda by, **fields: {
    s.id
    for s in study.expand(config(by, **({'pairs': str(path)} if by == 'pairs' else {}), **fields))
    if s.kind == 'dpo'
  }
  for by, name, value, reads in (
    ('verifier', 'judge_by', 'words', False),
    ('verifier', 'judge_tokens', 9, False),
    ('verifier', 'held_out', 0.2, False),
    ('verifier', 'pairs_per_problem', 2, True),
    ('self', 'judge_by', 'words', True),
    ('self', 'judge_tokens', 9, False),
    ('pairs', 'held_out', 0.2, True),
    ('pairs', 'pairs_per_problem', 2, False),
  ):
    assert (made(by, **{name: value}) != made(by)) == reads, (by, name)
  assert made('self', judge_by='words', judge_tokens=9) != made('self', judge_by='words')


def test_a_reward_model_of_a_file(tmp_path):
  path = tmp_path / 'pairs.jsonl'
  path.write_text(json.dumps({'prompt': '1=', 'chosen': '#1', 'rejected': '#2'}))
  c = with_scorers(config(), 'pairs')
  c.scorers.pairs, c.data.reward_problems = str(path), 0
  (model,) = [s for s in study.expand(c) if s.kind == 'preference']
  assert model.recipe['bank'] is None and model.recipe['pairs']['path'] == str(path)
  c.scorers.objectives = ('pairs', 'outcome')
  with pytest.raises(BadInput, match=r'^config.scorers.pairs is a file for objective .pairs., and'):
    study.expand(c)
  c.scorers.objectives = ('pairs',)
  c.dpo.feedback, c.dpo.rounds = ('pairs 25k',), 2
  with pytest.raises(BadInput, match=r'^config.dpo.fresh_scorer: the reward model learned from'):
    study.expand(c)


@pytest.mark.parametrize(
  'c, message',
  [
    (config('verifer'), r"config.dpo.feedback: unknown 'verifer'; nearest: verifier"),
    (config('outcome 25k'), r"config.dpo.feedback: unknown 'outcome 25k'"),
    (config('verifier', sizes=()), r'config.dpo.feedback is set: say where'),
    (config('verifier', sizes=('1b',)), r"config.dpo.sizes: '1b' is not among config.model.sizes"),
    (config('pairs'), r"config.dpo.pairs names a file for feedback 'pairs'"),
    (config('pairs', pairs='none.jsonl'), r'none.jsonl: No such file'),
    (config('self', judge_by='eye'), r"config.dpo.judge_by is 'eye': one of 'verdict', 'w"),
    (config('verifier', problems=128), r'config.dpo.problems is 128, more than config.data.rl_p'),
    (config('verifier', problems=15), r'block_prompts \(2\) does not divide config.dpo.problems'),
    (config('verifier', n=6), r'config.sample.block_samples \(4\) does not divide config.dpo.n'),
    (config('verifier', n=1), r'config.dpo.n is 1: it must be at least 2'),
    (config('verifier', beta=0.0), r'config.dpo.beta is 0.0: it must be more than 0'),
    (
      with_scorers(config('process 25k', rounds=2), 'process'),
      r'config.dpo.fresh_scorer: a process reward model needs roll-outs',
    ),
  ],
)
def test_rounds_that_cannot_be_are_one_line(c, message):
  with pytest.raises(BadInput, match=message) as error:
    study.expand(c)
  assert '\n' not in str(error.value)


def test_a_verdict_needs_a_model_that_was_taught_to_judge():
  c = config('self')
  c.data.attempts = 0.0
  with pytest.raises(BadInput, match=r'^config.data.attempts is 0, so no model was ever shown'):
    study.expand(c)
