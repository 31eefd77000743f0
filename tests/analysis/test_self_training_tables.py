"""What is said of self-training, from a made-up workdir whose numbers are known."""

import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from analysis import estimators, self_training, self_training_plots, self_training_words, tables
from analysis.errors import BadInput

P, N = 40, 16
WRONG = 'x'


class Workdir:
  """Writes stages, with banks in which problem i has right[i] right samples of N."""

  def __init__(self, folder):
    self.folder, self.stages = folder, []
    (folder / 'studies').mkdir(parents=True)
    (folder / 'version.json').write_text('{"format": 1}')

  def stage(self, kind, name, parent, **recipe):
    stage = dict(id=f'{kind}-{name}', kind=kind, label=name, parent=parent, recipe=recipe)
    where = self.folder / 'stages' / stage['id']
    where.mkdir(parents=True)
    (where / 'stage.json').write_text(json.dumps(stage))
    self.stages.append(stage)
    (self.folder / 'studies' / 's.json').write_text(
      json.dumps({'name': 's', 'stages': self.stages})
    )
    return stage['id']

  def policy(self, kind, name, parent, right, cost, tokens=1000, loss=1.0, base=0, **recipe):
    """A policy with its bank; cost: FLOPs beyond pretraining; base: tokens of pretraining; recipe:
    preset, seed, called, …"""
    policy = self.stage(kind, name, parent, **recipe)
    bank = self.stage('sample', name, policy, preset=recipe['preset'], seed=recipe['seed'], n=N,
                      problems=P, measure=True)  # fmt: skip
    cell = dict(
      seed=recipe['seed'], model=recipe['preset'], pretrain_tokens=base, sft_tokens=tokens,
      sft_unique_tokens=tokens, synthetic=recipe.get('called', 'none'),
      synthetic_round=recipe.get('round', 0), synthetic_tokens=0,
      synthetic_examples=recipe.get('paths', 0), synthetic_paths=recipe.get('paths', 0),
      params_non_embedding=100, rl_algorithm='none', rl_updates=0, rl_flops=0.0, sft_flops=cost,
      bank='', k=0, strategy='none', stderr=0.0, problems=P,
    )  # fmt: skip
    found = dict(stage=policy, kind=kind, metric='loss', value=loss)
    if kind == 'sft':
      self.records(policy, [cell | found])
    same = dict(stage=bank, kind='sample', metric='accuracy', strategy='oracle', bank=bank, k=1)
    self.records(bank, [cell | same | dict(value=float(np.mean(right)) / N)])
    self.bank(bank, right)
    return policy

  def records(self, stage_id, rows):
    pd.DataFrame(rows).to_parquet(self.folder / 'stages' / stage_id / 'records.parquet')

  def bank(self, stage_id, right):
    stage = json.loads((self.folder / 'stages' / stage_id / 'stage.json').read_text())
    kept = {k: v for k, v in stage['recipe'].items() if k not in ('n', 'problems', 'measure')}
    text = json.dumps({'parent': stage['parent'], 'recipe': kept}, sort_keys=True)
    where = self.folder / 'banks' / hashlib.sha256(text.encode()).hexdigest()[:10]
    where.mkdir(parents=True)
    rows = [
      dict(
        problem=f'p{i}', place=i, sample=s, correct=s < right[i], response=f'#{s % 3}',
        tokens=np.array([5, 6, 7, s % 3, 1], np.int32), logprobs=np.full(5, -0.5, np.float32),
        stage=stage_id, answer=str(s % 3),
      )
      for i in range(P) for s in range(N)
    ]  # fmt: skip
    pd.DataFrame(rows).to_parquet(where / 'shard-p00000-s00000.parquet')


def spread(mean, shift=0):
  """Counts of right samples: hard problems and easy ones, `shift` more of each."""
  rng = np.random.default_rng(5)
  return np.clip(rng.binomial(N, np.clip(rng.beta(1, 1 / mean - 1, P), 0, 1)) + shift, 0, N)


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """Two seeds of: a branch; human data at two budgets; rft at three sizes of bank; rounds that gain
  at the first try and lose in coverage; a weak teacher, its student and the ceiling."""
  w = Workdir(tmp_path_factory.mktemp('taught') / 'w')
  # Some problems right always, others never; and in both seeds as many more right as `flat` has.
  sharp = {0: np.where(np.arange(P) < 26, N, 0), 1: np.where(np.arange(P) < 23, N, 0)}
  sharp[1][23] = N // 2
  for seed in (0, 1):
    of = dict(preset='25k', seed=seed)
    name = lambda text, seed=seed: f'{text}-{seed}'
    base = w.stage('pretrain', name('base'), None, **of)
    flat = np.full(P, 8) - seed  # each half of the time
    branch = w.policy('sft', name('branch'), base, flat, 1e9, **of)
    run = of | dict(round=1, synthetic=None)
    w.policy('sft', name('human'), base, flat, 1e9, called='human', **run)
    w.policy('sft', name('longer'), base, flat + 4, 4e9, tokens=4000, called='human(tokens=4000)',
             **run)  # fmt: skip
    for i, n in enumerate((1, 4, 16)):
      made = w.stage('synthesize', name(f'made{n}'), branch, keep='correct', **of)
      right = flat + i - 1
      w.policy('sft', name(f'rft{n}'), base, right, 2e9, called=f'rft(n={n})', paths=100 * 4**i,
               **of | dict(round=1, synthetic=made))  # fmt: skip
    made = w.stage('synthesize', name('sharp'), branch, keep='correct', **of)
    first = w.policy('sft', name('sharp1'), branch, flat, 2e9, called='raft(rounds=2)',
                     **of | dict(round=1, synthetic=made), loss=1.5)  # fmt: skip
    w.policy('sft', name('sharp2'), first, sharp[seed], 3e9, called='raft(rounds=2)', loss=2.0,
             **of | dict(round=2, synthetic=made))  # fmt: skip
    spin = w.policy('dpo', name('spin1'), branch, flat, 2e9, called='spin', **of)
    w.policy('dpo', name('spin2'), spin, flat + 1, 3e9, called='spin', **of)
    w.policy('rl', name('grpo'), branch, flat + 1, 3e9, called='grpo', **of)  # not of these tables
    strong = dict(preset='75k', seed=seed, round=1)
    large = w.stage('pretrain', name('large'), None, preset='75k', seed=seed)
    w.policy('sft', name('branch75'), large, flat, 1e9, preset='75k', seed=seed)
    made = w.stage('synthesize', name('gold'), large, keep='gold', **dict(of, preset='75k'))
    w.policy(
      'sft', name('ceiling'), large, flat + 6, 1e9, called='gold', **strong | dict(synthetic=made)
    )
    made = w.stage('synthesize', name('weak'), branch, keep='all', **of)
    w.policy('sft', name('student'), large, flat + 3, 1e9, called="unfiltered(teacher='25k')",
             **strong | dict(synthetic=made))  # fmt: skip
  return w.folder


@pytest.fixture(scope='module')
def found(workdir):
  return self_training.read(workdir)


def test_a_bank_is_measured_by_hand():
  rows = [
    ('a', [5, 6, 7, 8, 1], [-1.0, -1, -1, -1, -1], '#1', True),
    ('a', [5, 6, 7, 8, 1], [-2.0, -2, -2, -2, -2], '#1', False),
    ('a', [5, 6, 7, 1], [-3.0, -3, -3, -3], '#2', False),
    ('a', [5, 1], [-4.0, -4], '#3', False),
  ]
  names = ('problem', 'tokens', 'logprobs', 'response', 'correct')
  table = pd.DataFrame([dict(zip(names, row, strict=True)) for row in rows])
  (row,) = self_training.of_bank(table, 2).itertuples()
  assert (row.Index, row.pass_1) == ('a', 0.25)
  assert row.pass_K == pytest.approx(0.5)  # 3 of the 6 pairs hold the right one
  assert row.entropy == pytest.approx((5 * 1 + 5 * 2 + 4 * 3 + 2 * 4) / 16)
  assert row.distinct == pytest.approx(3 / 5)  # 5678 and 6781 twice, 5671 once
  assert row.responses == 0.75


def test_rounds_are_beside_the_branch_and_paired(workdir, found):
  table = found.watch.set_index(['run', 'model', 'round'])
  assert found.K == N // 4 and set(table.loc['human'].index) == {('25k', 0), ('25k', 1)}
  row = table.loc['raft(rounds=2)', '25k', 2]
  assert row['seeds'] == 2 and row['pass_1'] == pytest.approx((26 + 23.5) / 2 / P)
  change = 26 / P - 8 / N
  assert row['pass_1_change'] == pytest.approx(change)
  half, *flat = estimators.pass_at_k(N, np.array([8, 8, 7]), N // 4)
  assert row['pass_K_change'] == pytest.approx((26 + 23 + half) / 2 / P - np.mean(flat))
  assert row['pass_1_low'] < change < row['pass_1_high'] and row['loss'] == 2.0
  assert row['entropy'] == pytest.approx(0.5) and row['training'] == 3e9
  # the same for all problems and seeds: no interval
  row = table.loc['rft(n=16)', '25k', 1]
  assert [row['pass_1_low'], row['pass_1_high']] == pytest.approx([1 / N] * 2)
  row = table.loc['spin', '25k', 2]
  assert row['pass_1_change'] == pytest.approx(1 / N) and np.isnan(row['loss'])


def test_first_tries_up_and_coverage_down_is_said_as_such(found):
  said = self_training_words.findings(found)
  (line,) = [line for line in said if 'pass@1 up' in line]
  assert line.startswith('raft(rounds=2), 25k: pass@1 up, pass@4 down')


def test_against_human_data_at_equal_tokens_and_equal_flops(found):
  row = found.against.set_index('run').loc['rft(n=16)']
  assert row['tokens_change'] == pytest.approx(1 / N)
  # 2 GFLOP lie in the middle, in log FLOPs, of 1 and 4: human data would have 2 samples more
  assert row['flops_change'] == pytest.approx((1 - 2) / N)
  assert [row['flops_low'], row['flops_high']] == pytest.approx([-1 / N] * 2)
  assert not {'human', 'human(tokens=4000)'} & set(found.against['run'])


def test_the_gap_that_is_recovered(found):
  (row,) = found.recovered.itertuples()
  assert (row.teacher, row.model, row.seeds) == ('25k', '75k', 2)
  assert row.weak == pytest.approx(7.5 / N) and row.strong == pytest.approx(13.5 / N)
  assert [row.pgr, row.low, row.high] == pytest.approx([0.5] * 3)
  assert any('0.50 of the gap is recovered' in line for line in self_training_words.words(found))


def test_a_line_over_paths(found):
  (row,) = found.paths.itertuples()
  assert (row.recipe, row.runs, row.paths) == ('rft', 3, [100.0, 400.0, 1600.0])
  assert [row.slope, row.low, row.high] == pytest.approx([1 / N / 2] * 3)  # a sample each 4 times
  assert row.held == pytest.approx(0, abs=1e-9) and row.naive == pytest.approx(1 / N)


def test_a_gap_that_is_noise_is_not_recovered(tmp_path):
  w = Workdir(tmp_path / 'w')
  of = dict(preset='25k', seed=0)
  base = w.stage('pretrain', 'base', None, **of)
  branch = w.policy('sft', 'branch', base, spread(0.4), 1e9, **of)
  strong = dict(preset='75k', seed=0, round=1)
  made = w.stage('synthesize', 'gold', base, keep='gold', **dict(of, preset='75k'))
  w.policy('sft', 'ceiling', base, spread(0.4)[::-1], 1e9, called='gold', **strong, synthetic=made)
  made = w.stage('synthesize', 'weak', branch, keep='all', **of)
  w.policy(
    'sft', 'student', base, spread(0.4, 2), 1e9, called='unfiltered', **strong, synthetic=made
  )
  (row,) = self_training.read(w.folder).recovered.itertuples()
  assert np.isnan(row.pgr) and np.isnan(row.low)


def test_bases_of_a_size_are_not_mixed(tmp_path):
  w = Workdir(tmp_path / 'w')
  of = dict(preset='25k', seed=0)
  for base, right in ((1000, 4), (2000, 8)):
    pretrained, flat = w.stage('pretrain', f'base{base}', None, **of), np.full(P, right)
    branch = w.policy('sft', f'branch{base}', pretrained, flat, 1e9, base=base, **of)
    for name, gain in (('human', 2), ('rft', 3)):
      made = None
      if name == 'rft':
        made = w.stage('synthesize', f'made{base}', branch, keep='correct', **of)
      w.policy('sft', f'{name}{base}', pretrained, flat + gain, 1e9, base=base, called=name,
               **of, round=1, synthetic=made)  # fmt: skip
  found = self_training.read(w.folder)
  assert len(found.watch) == 2 * 2 * 2
  for base, right in (('1,000', 4), ('2,000', 8)):
    rows = found.watch[found.watch['model'] == f'25k, {base} tokens of pretraining']
    rows = rows.set_index(['run', 'round'])
    assert rows.loc[('rft', 0), 'pass_1'] == right / N
    assert rows.loc[('rft', 1), 'pass_1_change'] == pytest.approx(3 / N)
  assert found.against['tokens_change'].to_list() == pytest.approx([1 / N] * 2)


def test_the_command_draws_and_the_crossed_study_is_without_these_runs(workdir, tmp_path, capsys):
  assert self_training.main([str(workdir), f'--out={tmp_path / "out"}']) == 0
  said = capsys.readouterr().out
  assert 'over human data alone' in said and 'raft(rounds=2)' in said
  names = {'self_training', 'against_human', 'weak_to_strong', 'paths'}
  assert {path.stem for path in (tmp_path / 'out').glob('*.png')} == names
  comparisons = json.loads((tmp_path / 'out' / 'comparisons.json').read_text())
  assert len(comparisons['recovered']) == 1
  records = tables.load(workdir)
  assert set(tables.crossed(records)['synthetic']) == {'none'} < set(records['synthetic'])


def test_a_study_without_such_runs_is_one_line(tmp_path, capsys):
  w = Workdir(tmp_path / 'w')
  of = dict(preset='25k', seed=0)
  w.policy('sft', 'branch', w.stage('pretrain', 'base', None, **of), spread(0.4), 1e9, **of)
  assert self_training.main([str(w.folder)]) == 2
  assert capsys.readouterr().err.count('\n') == 1
  with pytest.raises(BadInput, match=r'no measured run of config\.synthetic'):
    self_training.read(w.folder)


def test_every_figure_says_what_it_shows(found):
  for drawing in self_training_plots.figures(found):
    assert drawing.caption and drawing.figure.axes
