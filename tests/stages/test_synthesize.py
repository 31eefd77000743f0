"""Examples made of a bank, what they cost, and SFT on them, cut off and not.

Banks are written by hand, see by_hand.py; wrong samples are `hasty`: no steps, another answer.
"""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from scaling import bank, compute, processes
from scaling.data import attempts, batches, mixing
from scaling.errors import BadInput
from scaling.search import generate
from scaling.stages import dpo, supervised, synthesize
from scaling.stages import stage as stages
from scaling.truncation import Truncation
from tests.stages import by_hand as hand

N, workdir, base = hand.N, hand.workdir, hand.base


@pytest.fixture(scope='module')
def drawn(workdir):
  return hand.written_bank(workdir, 'rl', 16, hand.hasty)


def examples_of(workdir, bank_id, **changed):
  recipe = hand.common() | dict(
    bank=bank_id, scorer=None, earlier=None, pool='rl', problems=16, n=N, keep='correct',
    distinct='none', most=0, rationalise=0, temperature=1.0, response_tokens=6, round=1,
  )  # fmt: skip
  stage = stages.make(
    'synthesize', changed.pop('parent', hand.branch().id), 'made', recipe | changed
  )
  return hand.begin(workdir, stage)


def made(workdir, stage):
  synthesize.run(hand.setting_of(workdir), stage)
  folder = stages.folder(workdir, stage.id)
  return pd.read_parquet(folder / 'examples.parquet'), stages.done(workdir, stage.id)['synthetic']


@pytest.fixture(scope='module')
def right(workdir, drawn):
  stage = examples_of(workdir, drawn.id, distinct='equations')
  made(workdir, stage)
  return stage


def bank_of(*rows):
  names = ('problem', 'answer', 'correct', 'stopped', 'logprobs')
  return pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])


def test_what_each_filter_keeps():
  table = bank_of(
    ('a', '3', False, True, [-1.0, -1.0]), ('a', '4', True, True, [-2.0]),
    ('a', '3', False, True, [-3.0]), ('a', '4', True, False, [-0.1]),
    ('b', None, False, True, [-0.1]), ('b', '7', True, True, [-4.0]),
    ('c', None, False, True, [-0.2]),
    ('d', '1', False, True, [-0.5]), ('d', '2', True, True, [-0.4, -0.6]),
  )  # fmt: skip
  kept = lambda how, scores=None: np.flatnonzero(synthesize.keep(table, how, scores)).tolist()
  assert kept('correct') == [1, 5, 8]
  assert kept('all') == [0, 1, 2, 4, 5, 6, 7, 8]
  assert kept('majority') == [0, 2, 5, 7]  # of d a tie: the first to be given
  assert kept('best') == [0, 5, 7]  # a cut one and those without an answer are not chosen
  assert kept('scorer', np.array([0, 0.1, 0.9, 1, 1, 0, 1, 0.2, 0.3])) == [2, 5, 8]


def test_one_of_each_path_and_at_most_so_many():
  table = pd.DataFrame({'problem': list('aaabb'), 'path': list('xxyxx'), 'sample': range(5)})
  pick = lambda distinct, most: synthesize.chosen(table, distinct, most)['sample'].tolist()
  assert pick('none', 0) == [0, 1, 2, 3, 4]
  assert pick('equations', 0) == [0, 2, 3]
  assert pick('none', 1) == [0, 3] and pick('text', 1) == [0, 3]


def test_examples_say_where_they_come_from(workdir, drawn, right):
  folder = stages.folder(workdir, right.id)
  table, about = pd.read_parquet(folder / 'examples.parquet'), None
  about = stages.done(workdir, right.id)['synthetic']
  assert list(table) == list(synthesize.COLUMNS) and set(about) == set(synthesize.ABOUT)
  data_folder, data = stages.load_data(workdir, right.recipe)
  gold = {p.id: p for p in batches.problems(data_folder, 'rl')[:16]}
  assert len(table) == 16 and set(table['problem']) == set(gold)  # two right ones, of one path
  for row in table.itertuples():
    assert row.response == gold[row.problem].solution and row.correct and row.form == 'plain'
    assert data.vocab.decode(row.tokens) == row.prompt + row.response
    assert row.tokens[row.prompt_tokens :].tolist()[-1] == data.vocab.stop
    assert (row.parent, row.bank, row.round) == (hand.branch().id, drawn.id, 1)
  assert about['examples'] == about['new'] == about['paths'] == about['problems'] == 16
  assert about['drawn'] == 16 * N and about['passed'] == 0.5 and about['false'] == 0
  asked = bank.of_stage(workdir, drawn.id)
  flops = asked['decode_flops'].sum() + asked.drop_duplicates('problem')['prefill_flops'].sum()
  assert about['flops'] == pytest.approx(flops)
  packed = batches.packed(folder, 'rows')
  assert about['rows'] == len(packed.tokens) and about['tokens'] == (packed.segment_ids > 0).sum()
  tokens = table['tokens'].map(len)
  assert about['tokens'] == tokens.sum()
  assert packed.loss_mask.sum() == (tokens - table['prompt_tokens']).sum()


def test_other_filters_say_what_is_false(workdir, drawn):
  table, about = made(workdir, examples_of(workdir, drawn.id, keep='all'))
  assert len(table) == 16 * N and about['false'] == 0.5
  table, about = made(workdir, examples_of(workdir, drawn.id, keep='all', distinct='text', most=1))
  assert len(table) == 16 and about['false'] == 0.0 and about['passed'] == 1.0


def test_solutions_themselves_are_nobodys_samples(workdir):
  stage = examples_of(workdir, None, keep='gold', parent=base().id)
  table, about = made(workdir, stage)
  assert set(table['form']) == {'gold'} and len(table) == 16
  assert about['drawn'] == about['flops'] == 0 and table['logprob'].isna().all()


def test_examples_of_earlier_rounds_stay(workdir, drawn, right):
  stage = examples_of(
    workdir, drawn.id, keep='all', earlier=right.id, distinct='equations', round=2
  )
  table, about = made(workdir, stage)
  assert about['new'] == 32 and len(table) == 32  # a right and a wrong path of each; one was there
  assert table['round'].value_counts().to_dict() == {1: 16, 2: 16}


def test_nothing_kept_is_one_line(workdir):
  wrong = hand.written_bank(workdir, 'rl', 4, lambda solution: solution, 'nothing')
  stage = examples_of(workdir, wrong.id, problems=4)
  table = bank.of_stage(workdir, wrong.id)
  assert table['correct'].all()
  with pytest.raises(
    BadInput, match=r'of 16 samples of 4 problems none is kept .keep=.correct., 0 long'
  ):
    stage = stage._replace(recipe=stage.recipe | {'keep': 'correct'})
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
      patch.setattr(synthesize, 'keep', lambda table, how, scores=None: np.zeros(len(table), bool))
      synthesize.run(hand.setting_of(workdir), stage)


@pytest.fixture
def solver(monkeypatch):
  """A policy that answers every prompt with the solution of the first problem it begins with."""
  asked = []

  def make(cfg, params, vocab, mesh, how, key, **options):
    solver.options = options

    def draw(prefixes, n, salt):
      found = []
      for prefix in prefixes:
        asked.append(vocab.decode(prefix))
        solution = next(s for prompt, s in solver.known.items() if asked[-1].startswith(prompt))
        wrong = [*vocab.encode('#1'), vocab.stop]
        ids = [*vocab.encode(solution), vocab.stop]
        one = generate.Drawn(ids, [-0.5] * len(ids), True)
        found.append([generate.Drawn(wrong, [-1.0] * len(wrong), True)] * (n - 1) + [one])
      return found

    return SimpleNamespace(draw=draw, spent=compute.empty)

  monkeypatch.setattr(generate, 'make_generator', make)
  solver.known, solver.asked = {}, asked
  return solver


def test_what_failed_is_sampled_again_with_its_answer_shown(workdir, solver):
  none = hand.written_bank(workdir, 'rl', 8, lambda solution: hand.hasty(solution), 'half')
  stage = examples_of(workdir, none.id, problems=8, rationalise=3, response_tokens=1)
  data_folder, data = stages.load_data(workdir, stage.recipe)
  problems = batches.problems(data_folder, 'rl')[:8]
  solver.known = {p.prompt: p.solution for p in problems}
  table = bank.of_stage(workdir, none.id)
  failed = {p.id for p in problems[:3]}
  table['correct'] &= ~table['problem'].isin(failed)
  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(synthesize.preference, 'read_bank', lambda *a, **k: table)
    told = iter([True])
    patch.setattr(processes, 'preempted', lambda: next(told, False))
    with pytest.raises(processes.Preempted):
      made(workdir, stage)
    found, about = made(workdir, stage)
  first = table.drop_duplicates('problem').set_index('problem')['response']
  style = data.spec['style']
  room = lambda p: len(p.prompt) + len(first[p.id]) + len(p.answer) + 4 <= 32 - 1
  shown = [p for p in problems[:3] if room(p)]
  assert shown
  assert solver.asked == [attempts.critique(style, p, first[p.id], False, 'answer') for p in shown]
  told = found[found['form'] == 'rationalised'].set_index('problem')
  assert about['rationalised'] == len(told) == len(shown)
  for p in shown:
    assert told.loc[p.id, 'prompt'] == p.prompt  # the answer is not in what is learned
    assert told.loc[p.id, 'response'] == p.solution and told.loc[p.id, 'bank'] == stage.id
  done = stages.done(workdir, stage.id)
  lengths = [[3, 3, len(data.vocab.encode(p.solution)) + 1] for p in shown]
  prompts = [len(a) for a in solver.asked]
  by_hand = compute.generate(stages.model(stage.recipe), prompts, lengths, 0, 0, 0)['model']
  assert done['ledger']['model'] == pytest.approx(by_hand)


def test_a_second_attempt_is_learned_behind_the_first(workdir, solver):
  short = hand.written_bank(workdir, 'rl', 8, hand.hasty, 'revised')
  stage = examples_of(workdir, short.id, problems=8, keep='revised', top_k=3)
  data_folder, data = stages.load_data(workdir, stage.recipe)
  problems = {p.id: p for p in batches.problems(data_folder, 'rl')[:8]}
  solver.known = {p.prompt: p.solution for p in problems.values()}
  found, about = made(workdir, stage)
  table = bank.of_stage(workdir, short.id)
  said = {(r.problem, r.sample): r.response for r in table.itertuples()}
  assert solver.options['truncation'] == Truncation(top_k=3)  # as the first ones were
  style, fit = data.spec['style'], 0
  for (problem, _), text in said.items():
    shown = attempts.revise(style, problems[problem].prompt, text)
    fit += len(shown) <= 32 - 6
  assert len(solver.asked) == fit > 0 and len(found) + about['long'] == fit
  for row in found.itertuples():
    p = problems[row.problem]
    assert row.prompt == attempts.revise(style, p.prompt, said[row.problem, row.sample])
    assert row.response == p.solution and row.prompt_tokens == len(row.prompt)


# -- SFT on examples


def learner(workdir, synthetic, parent, **changed):
  recipe = hand.common() | dict(
    pool='sft', start=0, stop=6, end=6, decay=2, measure=False, trunk='', rows=8, warmup=2,
    learning_rate=2e-3, synthetic=synthetic, mix=0.25, called='rft', round=1,
  )  # fmt: skip
  return hand.begin(workdir, stages.make('sft', parent, 'learner', recipe | changed))


def test_a_cell_counts_its_tokens_and_all_that_made_its_examples_once(workdir, drawn, right):
  """Against a walk over all that it depends on, each stage's own FLOPs once."""
  for parent in (base().id, hand.branch().id):
    stage = learner(workdir, right.id, parent)
    supervised.run(hand.setting_of(workdir), stage)
    done = stages.done(workdir, stage.id)
    known = {right.id, drawn.id, stage.id}
    above = hand.branch().id
    while above is not None:
      known.add(above)
      above = json.loads((stages.folder(workdir, above) / 'stage.json').read_text())['parent']
    assert base().id in known
    ledgers = [bank.cost(workdir, drawn.id)]
    ledgers += [stages.done(workdir, i)['ledger'] for i in known - {drawn.id}]
    path = compute.add(*done['path'].values())
    assert path['model'] == pytest.approx(compute.add(*ledgers)['model'])
    assert done['path']['sft']['model']['decode'] > 0 == done['path']['pretrain']['model']['decode']
    cell, folder = done['cell'], stages.load_data(workdir, stage.recipe)[0]
    tallies = (
      batches.tally(folder, 'sft')[:, 0],
      batches.tally(stages.folder(workdir, right.id), 'rows')[:, 0],
    )
    of_pool = mixing.taken(6, 8, 0.25)
    parts = [of_pool * tallies[0].mean(), (48 - of_pool) * tallies[1].mean()]
    before = stages.done(workdir, parent)['cell'].get('sft_tokens', 0)
    assert cell['sft_tokens'] == pytest.approx(before + sum(parts), abs=2)
    assert cell['synthetic_tokens'] == round(parts[1])
    assert (cell['synthetic'], cell['synthetic_round']) == ('rft', 1)
    assert cell['synthetic_examples'] == cell['synthetic_paths'] == 16


def test_cut_off_it_ends_with_the_same_bits(workdir, drawn, right, monkeypatch):
  stage = learner(workdir, right.id, hand.branch().id, stop=8, end=8)
  supervised.run(hand.setting_of(workdir), stage)
  folder = stages.folder(workdir, right.id)
  examples = (folder / 'examples.parquet').read_bytes()
  (folder / 'done.json').unlink()  # cut before it ended: made anew
  synthesize.run(hand.setting_of(workdir), right)
  assert (folder / 'examples.parquet').read_bytes() == examples
  told = False, True, False, False, True
  hand.same_when_cut_off(supervised.run, workdir, stage, told, monkeypatch)


def test_self_play_has_the_solution_before_the_samples(workdir):
  """SPIN: every sample of another text is worse than the problem's own solution."""
  own = hand.written_bank(workdir, 'sft', 6, hand.hasty, 'own')
  recipe = hand.common() | dict(
    bank=own.id, scorer=None, grader=None, pairs=None, feedback='human', pairs_per_problem=4,
    judge_by='verdict', judge_tokens=8,
  )  # fmt: skip
  stage = hand.begin(workdir, stages.make('dpo', hand.branch().id, 'spin', recipe))
  dpo.check(recipe)
  data_folder, data = stages.load_data(workdir, recipe)
  source = dpo.from_bank(hand.setting_of(workdir), stage, data)
  pairs, problems = source.epoch_of(0), batches.problems(data_folder, 'sft')[:6]
  assert source.about == {'problems_without_pairs': 0, 'failed': 0}
  text = lambda i: data.vocab.decode(source.sequences[i])
  solved = {p.prompt + p.solution for p in problems}
  assert {text(i) for i in pairs[:, 0]} == solved
  assert {text(i) for i in pairs[:, 1]} == {p.prompt + hand.hasty(p.solution) for p in problems}
