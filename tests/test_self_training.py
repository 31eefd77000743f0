"""The runs of config.synthetic as stages: what each reads, and what is refused."""

import pytest

from scaling import compute, config, plan, study
from scaling.errors import BadInput
from scaling.stages import stage as stages
from tests import tiny


def with_runs(*runs, **fields):
  c = tiny.get_config()
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.data.attempts = 0.5
  c.synthetic.runs, c.synthetic.sizes = runs, ('25k',)
  c.synthetic.problems, c.synthetic.n, c.synthetic.tokens = 16, 4, 1024
  for name, value in fields.items():
    c.synthetic[name] = value
  return c


def tree_of(c):
  tree = study.expand(c)
  return tree, {s.id: s for s in tree}


def learners(tree, called):
  return [s for s in tree if s.kind == 'sft' and s.recipe.get('called') == called]


def branch(tree, size='25k'):
  ends = [s for s in tree if s.kind == 'sft' and s.recipe['measure'] and 'called' not in s.recipe]
  return [s for s in ends if s.recipe['preset'] == size][-1]


def base(tree, size='25k'):
  return next(s for s in tree if s.kind == 'pretrain' and s.recipe['preset'] == size)


def test_rounds_from_the_base_and_on_from_the_policy():
  tree, by_id = tree_of(with_runs('rest_em(rounds=2, accumulate=True)', 'raft(rounds=2)'))
  for called, parents in (
    ('rest_em(rounds=2, accumulate=True)', lambda one: [base(tree).id] * 2),
    ('raft(rounds=2)', lambda one: [branch(tree).id, one[0].id]),
  ):
    rounds = learners(tree, called)
    assert [s.recipe['round'] for s in rounds] == [1, 2]
    assert [s.parent for s in rounds] == parents(rounds)
    made = [by_id[s.recipe['synthetic']] for s in rounds]
    policies = [branch(tree).id, rounds[0].id]
    assert [m.parent for m in made] == policies
    for m, policy in zip(made, policies, strict=True):
      drawn = by_id[m.recipe['bank']]
      assert (drawn.kind, drawn.parent, drawn.recipe['pool']) == ('sample', policy, 'rl')
      assert (drawn.recipe['problems'], drawn.recipe['n'], drawn.recipe['measure']) == (
        16,
        4,
        False,
      )
    stays = called.startswith('rest_em')
    assert [m.recipe['earlier'] for m in made] == [None, made[0].id if stays else None]
    for s in rounds:
      assert s.recipe['start'] == 0 and s.recipe['end'] == s.recipe['stop'] == 4
      assert 0 < s.recipe['decay'] < 4 and s.recipe['measure']
      assert any(
        m.parent == s.id and m.recipe['pool'] == 'test' for m in tree if m.kind == 'sample'
      )
  order = [s.id for s in tree]
  for s in tree:
    assert all(order.index(i) < order.index(s.id) for i in stages.inputs(s))
  first = [by_id[learners(tree, name)[0].recipe['synthetic']] for name in (
    'rest_em(rounds=2, accumulate=True)', 'raft(rounds=2)')]  # fmt: skip
  assert first[0].recipe['bank'] == first[1].recipe['bank']  # one bank of one policy


def test_what_recipes_are_made_of_and_a_run_has_its_own():
  tree, by_id = tree_of(with_runs('human', 'gold', 'rft(n=8, mix=0.25)', 'star(rounds=1)'))
  (human,) = learners(tree, 'human')
  assert human.recipe['synthetic'] is None and human.recipe['mix'] == 1.0
  (gold,) = learners(tree, 'gold')
  made = by_id[gold.recipe['synthetic']]
  assert made.parent == base(tree).id and made.recipe['bank'] is None  # nobody's samples
  (rft,) = learners(tree, 'rft(n=8, mix=0.25)')
  made = by_id[rft.recipe['synthetic']].recipe
  assert rft.recipe['mix'] == 0.25 and made['n'] == 8
  assert (made['keep'], made['distinct'], made['most']) == ('correct', 'equations', 0)
  (star,) = learners(tree, 'star(rounds=1)')
  made = by_id[star.recipe['synthetic']].recipe
  assert (made['rationalise'], made['most'], star.recipe['mix']) == (1, 1, 0.0)


def test_runs_change_no_stage_of_a_study_without_them():
  c = with_runs('rft')
  plain = with_runs()
  assert {s.id for s in study.expand(plain)} < {s.id for s in study.expand(c)}


def test_a_teacher_of_another_size():
  c = with_runs('unfiltered(teacher="25k", n=1, temperature=0.3)', 'gold')
  c.model.sizes = ('25k', '75k')
  c.synthetic.sizes = ('75k',)
  tree, by_id = tree_of(c)
  (student,) = learners(tree, c.synthetic.runs[0])
  made = by_id[student.recipe['synthetic']]
  assert student.recipe['preset'] == '75k' and student.parent == base(tree, '75k').id
  assert made.recipe['preset'] == '25k' and made.parent == branch(tree, '25k').id
  drawn = by_id[made.recipe['bank']]
  assert (drawn.recipe['preset'], drawn.recipe['temperature'], drawn.recipe['n']) == ('25k', 0.3, 1)
  assert drawn.recipe['pool'] == 'rl'  # whose problems SFT of the teacher never saw


def test_self_play_is_rounds_of_dpo_on_what_sft_learned_from():
  tree, by_id = tree_of(with_runs('spin(rounds=2)'))
  rounds = [s for s in tree if s.kind == 'dpo']
  assert [s.recipe['feedback'] for s in rounds] == ['human'] * 2
  assert {s.recipe['called'] for s in rounds} == {'spin(rounds=2)'}
  assert [s.parent for s in rounds] == [branch(tree).id, rounds[0].id]
  for s in rounds:
    drawn = by_id[s.recipe['bank']]
    assert (drawn.recipe['pool'], drawn.recipe['problems'], drawn.recipe['n']) == ('sft', 16, 4)


def test_a_reward_model_chooses():
  c = with_runs("best_of_n(keep='outcome 25k', n=4)")
  c.data.reward_problems, c.scorers.n = 12, 4
  c.scorers.objectives, c.scorers.sizes, c.scorers.policies = ('outcome',), ('25k',), ('25k',)
  tree, by_id = tree_of(c)
  (s,) = learners(tree, c.synthetic.runs[0])
  made = by_id[s.recipe['synthetic']]
  assert made.recipe['keep'] == 'scorer' and by_id[made.recipe['scorer']].kind == 'preference'


def test_the_plan_counts_second_attempts_and_who_drew_the_samples():
  c = with_runs('star(rounds=1)', 'self_correction', 'gold')
  tree, by_id = tree_of(c)
  made = {name: by_id[learners(tree, name)[0].recipe['synthetic']] for name in c.synthetic.runs}
  total = lambda name: compute.total(plan.estimate(made[name]))
  assert total('gold') == 0 < total('star(rounds=1)') < total('self_correction')
  assert all(value > 0 for value in plan.seconds(tree, 1e10).values())
  tree = study.expand(with_runs('rft'))
  train = {s.id: compute.total(plan.estimate(s)) for s in tree if s.kind in plan.TRAINED}
  trained = [s for s in tree if s.id in train]
  planned, alone = plan.sharing(tree)
  assert planned == pytest.approx(sum(train.values()))
  by_id = {s.id: s for s in tree}
  path = lambda s: train[s.id] + (path(by_id[s.parent]) if s.parent else 0)
  (rft,) = learners(tree, 'rft')
  cells = [s for s in trained if s.kind == 'sft' and s.recipe['measure']]
  sampler = path(branch(tree)) - path(base(tree))  # alone, rft needs the branch that it sampled
  assert alone == pytest.approx(sum(map(path, cells)) + sampler) and rft in cells


@pytest.mark.parametrize(
  'c, message',
  [
    (with_runs('rtf'), r"^config.synthetic.runs: unknown 'rtf'; nearest: rft"),
    (with_runs('rft(4)'), r"^config.synthetic.runs has 'rft\(4\)': write it like rft\(n=8\)"),
    (with_runs('rft(rows=4)'), r"config.synthetic has no field 'rows' for a run"),
    (with_runs("rft(runs=('star',))"), r"config.synthetic has no field 'runs' for a run"),
    (with_runs("rft(n='4')"), r"has .rft\(n='4'\).: n is '4', and it must be a whole number"),
    (with_runs('rft(mix=2.0)'), r'config.synthetic.mix is 2.0: it must be in \[0, 1\]'),
    (with_runs('rft', sizes=()), r'config.synthetic.runs is set: say which sizes learn'),
    (with_runs('rft', sizes=('1b',)), r"synthetic.sizes: '1b' is not among config.model.sizes"),
    (with_runs("rft(keep='good')"), r"has .*: keep is 'good'; nearest: gold"),
    (with_runs("rft(start='here')"), r"start is 'here'; known: base, policy"),
    (with_runs("rft(teacher='1b')"), r"teacher is '1b'; "),
    (with_runs("rft(teacher='25k', rounds=2)"), r'rounds is 2, and what is learned is the same'),
    (with_runs('gold(rounds=2)'), r'rounds is 2, and what is learned is the same'),
    (with_runs('rft', tokens=100), r'tokens is 100, less than one batch of sft.rows x'),
    (with_runs('rft(mix=1.0)'), r'mix is 1 and keep .correct.: a mix of 1 is human data alone'),
    (with_runs('human(mix=0.5)'), r'mix is 0.5 and keep .human.'),
    (with_runs('gold(rationalise=1)'), r"rationalise is 1 and keep 'gold', which leaves no"),
    (with_runs('rft', problems=65), r'problems is 65, more than config.data.rl_problems \(64\)'),
    (with_runs('rft', problems=15), r'block_prompts \(2\) does not divide problems \(15\)'),
    (with_runs('rft(n=6)'), r'block_samples \(4\) does not divide n \(6\)'),
    (with_runs("spin(start='base')"), r'spin takes problems, n, rounds; set others in config.dpo'),
    (with_runs("rft(keep='pairs')"), r"keep is 'pairs'"),
  ],
)
def test_runs_that_cannot_be_are_one_line(c, message):
  with pytest.raises(BadInput, match=message) as error:
    study.expand(c)
  assert '\n' not in str(error.value)


def test_attempts_are_shown_to_models_that_were_shown_some():
  for run in ('star', 'self_correction'):
    c = with_runs(run)
    c.data.attempts = 0.0
    with pytest.raises(BadInput, match=r'config.data.attempts is 0, so the model was never shown'):
      study.expand(c)


def test_what_is_drawn_beside_a_bank_is_drawn_from_the_same_tokens():
  def tree(**sample):
    c = with_runs("star(rounds=1, prompts='evolve')")
    c.data.reward_problems, c.scorers.n = 12, 4
    c.scorers.objectives, c.scorers.sizes, c.scorers.policies = ('process',), ('25k',), ('25k',)
    c.sample.update(sample)
    return {s.kind: s.recipe for s in study.expand(c)}

  plain, cut = tree(), tree(top_p=0.5)
  for kind in ('rollouts', 'synthesize', 'prompts'):
    assert cut[kind]['top_p'] == 0.5 and not {'top_p', 'top_k', 'min_p'} & set(plain[kind])
  with pytest.raises(BadInput, match=r"^config.sample.stop is set, and the roll-outs of 'process'"):
    tree(stop=(';',))


@pytest.mark.parametrize('run', ['star', 'self_correction', "rft(prompts='evolve')"])
def test_second_attempts_and_new_prompts_have_no_stop_strings(run):
  c = with_runs(run)
  c.sample.stop = (';',)
  with pytest.raises(BadInput, match=r'^config.synthetic.runs has .*: config.sample.stop is set'):
    study.expand(c)
  c.synthetic.runs = ('rft',)
  assert study.expand(c)


def test_the_default_has_no_runs():
  assert not config.default().synthetic.runs
