"""The report: self-contained, true to planted findings of either sign, there for small studies."""

import ast
import itertools
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import synthetic
from matplotlib.collections import PolyCollection

from analysis import (
  estimators,
  findings,
  frontier,
  frontier_plots,
  frontier_words,
  planning,
  plots,
  readings,
  report,
  report_tables,
  residual_plots,
  style,
  tables,
  test_time,
)
from analysis.interpret import coverage_fits, interpret, thinned_beta

ROOT = Path(__file__).parents[2]
SMALL = synthetic.Truth(problems=40, samples=16, updates=(10, 40, 160))
FIGURES = {'curves', 'loss', 'coverage', 'rl', 'joint', 'residuals', 'frontier', 'splits', 'ledger'}
FIGURES |= {'sft_laws'}


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  return synthetic.write(tmp_path_factory.mktemp('study') / 'w', SMALL)


@pytest.fixture(scope='module')
def reading(workdir):
  return interpret(tables.read(workdir))


@pytest.fixture(scope='module')
def page(workdir):
  path, said = report.write(workdir)
  return path.read_text(), said


def test_a_report_that_cannot_be_written_leaves_nothing(workdir, reading, monkeypatch):
  monkeypatch.setattr(report, 'interpret', lambda read: reading)
  monkeypatch.setattr(report, 'render', lambda *given: ('\udc00', []))
  before = set(workdir.iterdir())
  with pytest.raises(UnicodeEncodeError):
    report.write(workdir)
  assert set(workdir.iterdir()) == before


def test_page_is_whole_and_needs_no_network(page, workdir):
  text, said = page
  assert set(re.findall(r'<figure id="(\w+)"', text)) == FIGURES
  assert set(re.findall(r'src="(data:image/png;base64,)', text)) == {'data:image/png;base64,'}
  assert not re.search(r'(src|href)="(?!data:|#)|https?://|<script|@import', text)
  assert 'width=device-width' in text
  plain = re.sub('</?b>', '', text)
  assert said and all(style.text(line) in plain for line in said)
  assert said[0].startswith('Best split of ') and '<b>Best split of' in text
  stages = json.loads((workdir / 'studies/synthetic.json').read_text())['stages']
  assert all(stage['id'] in text for stage in stages)
  assert 'python run.py --config=experiments/synthetic.py' in text and '0123456789abcdef' in text
  assert not list(workdir.glob('*.tmp'))
  anchors = set(re.findall(r'href="#([\w-]+)"', text))
  assert anchors == set(re.findall(r'<(?:h2|figure) id="([\w-]+)"', text)) > FIGURES
  assert 'python -m analysis.frontier' in text and 'Exchange rates at' in text


def test_planted_truth_is_found(reading):
  law = reading.loss_fit
  assert law.params['alpha'] == pytest.approx(SMALL.alpha, abs=0.12)
  assert law.params['beta'] == pytest.approx(SMALL.beta, abs=0.12)
  assert law.holdout_error < law.baseline_error
  said = ' '.join(findings.main(reading))
  assert 'held-out loss falls at 3 of 3 sizes' in said
  assert 'held-out loss falls at 5 of 5 SFT budgets' in said
  last = readings.last_changes(reading.changes)
  once = last[last['k'] == 1].set_index(['model', 'sft_tokens'])
  assert once.loc[('75k', 4e5), 'change_low'] < 0 < once.loc[('75k', 4e5), 'change_high']
  assert (once.drop(('75k', 4e5))['change_low'] > 0).all()
  assert 'pass@1 rises over 3 of 4 SFT parents, shows no change beyond noise over 1' in said


def test_change_is_paired_by_problem(reading):
  counts = reading.study.counts
  row = readings.last_changes(reading.changes).iloc[0]
  cell = counts[(counts['model'] == row['model']) & (counts['sft_tokens'] == row['sft_tokens'])]
  rate = lambda updates: (
    cell[cell['rl_updates'] == updates].set_index('problem').eval('c / n').sort_index()
  )
  change = rate(row['rl_updates']) - rate(0)
  assert row['k'] == 1 and row['change'] == pytest.approx(change.mean())
  width = 3.92 * change.std() / np.sqrt(len(change))
  assert row['change_high'] - row['change_low'] == pytest.approx(width, rel=0.25)


def test_findings_say_so_when_numbers_contradict(tmp_path):
  """RL that hurts and loss that rises with size and with tokens: the sentences turn round."""
  worse = SMALL._replace(
    rl_gain={('75k', 1.6e6): -2.0, ('150k', 1.6e6): -2.0}, A=-60.0, B=-120.0, E=3.0
  )
  said = findings.main(interpret(tables.read(synthetic.write(tmp_path / 'w', worse))))
  said = ' '.join(said)
  assert 'pass@1 falls over 2 of 2 SFT parents' in said
  assert 'held-out loss rises at 3 of 3 sizes' in said
  assert 'held-out loss rises at 5 of 5 SFT budgets' in said


def test_a_base_that_learns_worse_for_more_pretraining_is_said(reading):
  less = reading.losses
  more = less.assign(pretrain_tokens=4 * less['pretrain_tokens'], value=less['value'] + 1)
  both = pd.concat([less, more], ignore_index=True)
  said = ' '.join(findings.loss(reading._replace(losses=both)))
  assert 'More pretraining: held-out loss after SFT rises at 15 of 15 SFT runs; of 150k' in said
  assert '(+1.000, 95 % +0.' in said
  assert 'More SFT tokens: held-out loss falls at 6 of 6 bases; 150k, ' in said
  assert 'More pretraining' not in ' '.join(findings.loss(reading))


def test_a_law_worse_than_its_baseline_is_called_worse(reading):
  law = reading.loss_fit._replace(holdout_error=0.2, baseline_error=0.1)
  assert 'the law is 2.0 times worse' in ' '.join(findings.loss(reading._replace(loss_fit=law)))
  law = law._replace(baseline_error=0.201)
  assert 'no better and no worse' in ' '.join(findings.loss(reading._replace(loss_fit=law)))


@pytest.mark.parametrize(
  'truth, options, figures, missing',
  [
    (
      SMALL,
      {'banks': False},
      {'curves', 'loss', 'sft_laws', 'residuals', 'ledger'},
      'no rollout bank',
    ),
    (SMALL, {'rl': False}, FIGURES - {'rl'}, 'RL laws'),
    (
      SMALL._replace(sizes=('75k',), budgets=(4e5,)),
      {},
      FIGURES - {'joint', 'sft_laws', 'loss'},
      'loss law',
    ),
    (
      SMALL._replace(sizes=('25k',), budgets=(1e5,), problems=3, samples=2),
      {},
      FIGURES - {'joint', 'rl', 'residuals', 'sft_laws', 'loss'},
      'joint law',
    ),
  ],
)
def test_small_studies_get_what_they_have(tmp_path, truth, options, figures, missing):
  path, said = report.write(synthetic.write(tmp_path / 'w', truth, **options))
  text = path.read_text()
  assert set(re.findall(r'<figure id="(\w+)"', text)) == figures
  assert missing in text and said


@pytest.fixture(scope='module')
def test_time_study(tmp_path_factory):
  """A study with scorers and searches: (its reading, the page of its report, its findings)."""
  truth = SMALL._replace(sizes=('150k',), budgets=(4e5, 1.6e6), rl_gain={}, samples=32)
  folder = synthetic.write(tmp_path_factory.mktemp('ttc') / 'w', truth)
  synthetic.add_strategies(folder, skill=2.5)
  reading = interpret(tables.read(folder))
  return reading, *report.render(reading)


def test_strategies_are_drawn_and_compared(test_time_study):
  reading, text, said = test_time_study
  figures = set(re.findall(r'<figure id="(\w+)"', text))
  assert {'strategies', 'compute_optimal', 'frontier'} <= figures
  line = next(line for line in said if line.startswith('Test time, 150k'))
  assert 'best of outcome (25k), k = ' in line and 'need no verdict' in line
  assert 'of 5 strategies' in line and 'majority vote, k = ' in line
  optimal = next(line for line in said if line.startswith('Compute-optimal'))
  row = reading.optimal.table.iloc[-1]
  assert f'solves {style.percent(row["quality"])}' in optimal
  assert f'{style.points(row["gain_majority"])} over majority vote' in optimal
  assert 'Scorers</h2>' in text and 'accuracy at 0.5' in text and '0.800 ± 0.020' in text
  assert 'reward model' in text and '<td>score</td>' in text  # in the ledger


def test_the_frontier_takes_any_strategy_but_the_oracle(test_time_study):
  reading, _, _ = test_time_study
  splits = reading.deployable.splits
  assert set(splits['strategy']) == {
    'majority', 'logprob', 'best_of_outcome', 'weighted_outcome', 'beam'
  }  # fmt: skip
  assert set(reading.quality.splits['strategy']) == {'majority'}
  outcomes = test_time.load_outcomes(reading.study.workdir, reading.study.name)
  for name in ('episodes', 'episodes(environment=hints)'):  # an environment says what is right
    told = outcomes.replace({'strategy': {'beam': name}})
    without = frontier.deployable(reading.quality, told).splits['strategy']
    assert set(without) == set(splits['strategy']) - {'beam'}
  best = splits[splits['strategy'] == 'best_of_outcome']
  votes = splits[splits['strategy'] == 'majority']
  keys = [*frontier.SPLIT]
  both = best.merge(votes, on=keys, suffixes=('', '_vote'))
  assert len(both) == len(best) > 0 and (both['query_flops'] > both['query_flops_vote']).all()
  assert (both['sft_flops'] == both['sft_flops_vote']).all()
  i = best.index[-1]
  rows = reading.strategies
  cell = rows[(rows['strategy'] == 'best_of_outcome') & (rows['k'] == splits.loc[i, 'k'])]
  cell = cell[(cell[keys[:4]] == splits.loc[i, keys[:4]]).all(axis=1)].iloc[0]
  assert reading.deployable.majority[i].mean() == pytest.approx(cell['value'])
  assert splits.loc[i, 'query_flops'] == pytest.approx(cell['flops'])


def test_that_a_scorer_was_trained_is_said_where_one_is_chosen_and_only_there(test_time_study):
  reading, _, _ = test_time_study
  without = reading.deployable.splits['scorer_name'] == ''
  assert 0 < without.sum() < len(without)
  plain = reading.deployable._replace(
    splits=reading.deployable.splits[without].reset_index(drop=True),
    majority=reading.deployable.majority[without], oracle=reading.deployable.oracle[without],
  )  # fmt: skip
  for of in (reading, reading._replace(deployable=plain)):
    measured = frontier.measured(of.deployable, 1e3)
    best = frontier.best_at(measured, frontier.default_budgets(measured.table))
    some = best['scorer_name'] != ''
    assert some.any() == (of is reading)
    lines = frontier_words.best_split(measured, best)
    said = [line for line in lines if ', the training of its scorer not counted' in line]
    assert len(said) == len(best[some].drop_duplicates([*frontier.SPLIT, 'strategy']))
    assert all('outcome (25k) with k = ' in line or 'beam (25k) with' in line for line in said)
    assert set(said) <= set(findings.main(of, 1e3))
    assert (frontier_words.SCORER in frontier_plots.split_figure(of, 1e3).caption) == some.any()
    assert ('scorer' in frontier_plots.frontier_figure(of, 1e3).caption) == some.any()


def test_coverage_laws_are_tested_on_a_k_that_they_have_not_seen(test_time_study):
  """Of pass@1 and pass@2 alone: then the beta distribution is the one that has both."""
  reading, page, said = test_time_study
  assert len(reading.coverage) == 2 and (reading.coverage[['K', 'few']] == [8, 2]).all(axis=None)
  for _, row in reading.coverage.iterrows():
    cell = reading.study.counts[reading.study.counts['bank'] == row['bank']]
    once, twice = (estimators.pass_at_k(cell['n'], cell['c'], k).mean() for k in (1, 2))
    wrong, both = 1 - once, 1 - twice  # the moments of the chance of a wrong sample
    size = (wrong - both) / (both - wrong**2)
    k = np.arange(8)
    expected = 1 - np.prod((wrong * size + k) / (size + k))
    assert row['beta_predicted'] == pytest.approx(expected, abs=1e-5)
    assert row['beta_low'] < row['measured'] < row['beta_high']
  line = next(line for line in said if line.startswith('Coverage: '))
  assert 'a beta-binomial of the banks thinned to 2 samples a problem by' in line
  assert 'thinned to K/4 samples' in page


def test_a_thinned_bank_is_all_of_its_subsets():
  c, n, few = np.array([0, 1, 3, 6, 8, 2]), 8, 3
  subsets = np.array(list(itertools.combinations(range(n), few)))
  counts = [(np.arange(n) < right)[subsets].sum(axis=1) for right in c]
  expected = estimators.fit_beta_binomial(np.concatenate(counts), few)
  assert thinned_beta(c, np.full(6, n), few) == pytest.approx(expected, rel=1e-3)
  even = thinned_beta(np.full(50, 16), np.full(50, 64), 16)  # no spread: a binomial
  assert even[0] / sum(even) == pytest.approx(0.25) and sum(even) > 1e3


def test_a_bank_without_a_right_sample_has_no_law_of_coverage_and_no_nan(test_time_study):
  reading, _, _ = test_time_study
  counts = reading.study.counts
  one = counts['bank'] == counts['bank'].iloc[0]
  study = reading.study._replace(counts=counts.assign(c=counts['c'].where(~one, 0)))
  table = report_tables.coverage(coverage_fits(study, reading.quality))
  assert table['measured'].tolist().count('0.0 %') == 1
  assert 'nan' not in table.to_string() and (table == '').sum().max() == 1


def test_majority_votes_are_those_that_stages_wrote_down(test_time_study, monkeypatch):
  reading, _, _ = test_time_study
  counted = frontier.qualities(reading.study._replace(workdir=Path('nowhere')))  # of the votes
  assert np.array_equal(counted.majority, reading.quality.majority)
  monkeypatch.setattr(estimators, 'majority_at_k', None)
  assert np.array_equal(frontier.qualities(reading.study).majority, counted.majority)


def test_a_strategy_that_is_no_better_is_not_called_so(test_time_study):
  """Majority best: the others are named beside it; equal intervals are said to overlap."""
  reading, _, _ = test_time_study
  table = reading.strategies.copy()
  votes = table['strategy'] == 'majority'
  table.loc[votes, 'value'] = 0.98 + 1e-3 * table['k']
  said = findings.strategies(reading._replace(strategies=table))
  assert all('majority vote, k = ' in line and 'the best of the others is' in line for line in said)
  for name in ('episodes', 'episodes(environment=verdict)'):  # by an environment that verifies
    told = table[votes].assign(strategy=name, value=1.0)
    assert findings.strategies(reading._replace(strategies=pd.concat([table, told]))) == said
  table = reading.strategies.copy()
  table['low'], table['high'] = 0.0, 1.0
  said = findings.strategies(reading._replace(strategies=table))
  assert said and all('the intervals overlap' in line for line in said)
  row = reading.optimal.table.copy()
  for name in ('best_of_n', 'majority', 'uniform'):
    row[f'gain_{name}'], row[f'gain_{name}_low'], row[f'gain_{name}_high'] = -0.1, -0.2, -0.05
  optimal = reading.optimal._replace(table=row)
  assert ': a loss)' in findings.compute_optimal(reading._replace(optimal=optimal))[0]


def test_interrupted_study_says_so(workdir, tmp_path):
  partial = tmp_path / 'w'
  shutil.copytree(workdir, partial)
  stages = tables.read(partial).plan['stages']
  for stage in stages[len(stages) // 3 :]:
    shutil.rmtree(partial / 'stages' / stage['id'])
  text = report.write(partial)[0].read_text()
  assert f'{len(stages) // 3} of {len(stages)} stages have ended: an interrupted study' in text
  assert 'not ended' in text


def test_several_seeds_are_read_together(tmp_path):
  truth = SMALL._replace(seeds=(0, 1), sizes=('75k', '150k'), budgets=(1e5, 4e5), problems=12)
  reading = interpret(tables.read(synthetic.write(tmp_path / 'w', truth)))
  assert set(reading.quality.splits['seeds']) == {2}
  assert (reading.losses['seeds'] == 2).all()
  assert {d.name for d in plots.all_figures(reading)} >= {'loss', 'rl', 'frontier'}


def test_a_cell_that_never_solves_anything_is_no_error(tmp_path):
  truth = SMALL._replace(mean=-40.0, rl_gain={('75k', 4e5): 0.0}, budgets=(1e5, 4e5))
  path, said = report.write(synthetic.write(tmp_path / 'w', truth))
  said = ' '.join(said)
  assert 'pass@1 shows no change beyond noise over 1 of 1 SFT parent' in said
  assert 'solves more than 0.1 %' in said and 'Best split' not in said
  times = re.findall(r'([\d.]+) times (?:better|worse)', said)
  assert all(float(number) < 1000 for number in times)
  assert 'nan' not in re.sub(r'base64,[^"]+', '', path.read_text()).lower().replace('finan', '')


@pytest.mark.parametrize(
  'error, baseline, says',
  [
    (1e-9, 9e-4, ', both within 0.1 points, so it is no better and no worse'),
    (1e-9, 0.02, ', so it is more than 20.0 times better'),
    (0.03, 1e-9, ', so it is more than 30.0 times worse'),
    (0.03, 0.02, ', so it is 1.5 times worse'),
    (0.0201, 0.02, ', so it is no better and no worse'),
  ],
)
def test_tiny_errors_make_no_great_ratio(error, baseline, says):
  assert findings._compare('it', error, baseline) == says


def test_the_joint_findings_say_what_came_out(reading, page):
  corner = reading.heldout
  table = corner.table
  inside = (table['low'] <= table['measured']) & (table['measured'] <= table['high'])
  said = findings.joint(reading)
  assert f'{inside.sum()} of the {len(table)} measured values' in said[0]
  assert 'N\u2009×\u2009D' in said[0] and 'law of majority@k, held out in the same way' in said[1]
  assert f'misses by {100 * reading.heldout_majority.error["joint"]:.1f} points' in said[1]
  one = ' '.join(findings.joint(reading._replace(heldout=corner._replace(heldout_cells=1))))
  assert 'of the one cell at both' in one
  assert 'has 3 or more levels among the fitted cells' in page[0]
  assert 'Terms that entered: 1, N, D, C.' in page[0]
  assert 'resample a problem in all cells at once' in page[0]


def test_pretraining_is_said_where_it_varies_and_only_there(reading, tmp_path):
  """Of several bases the law's splits, terms and exchange rates are said; of one, nothing."""
  truth = SMALL._replace(
    problems=20, budgets=(1e5, 4e5, 1.6e6), bases=(0.0, 1e5, 1e6), per_log_base=0.8, rl_gain={}
  )
  several = interpret(tables.read(synthetic.write(tmp_path / 'w', truth)))
  law, fitted = several.loss_fit, tables.most_pretrained(several.losses)
  assert law.rows + law.held == len(fitted) == len(several.losses) / 3
  assert several.losses.loc[several.losses['held_out'], 'pretrain_tokens'].tolist() == [1e6]
  assert len(residual_plots._loss_residuals(several)[2]) == len(fitted)
  bands = plots.loss_figure(several).figure.axes[0].findobj(PolyCollection)
  assert len(bands) == fitted['model'].nunique() == 3  # points of every base, the law of one
  words = []
  for of in (several, reading):
    page = ' '.join(report._laws(of) + report._frontier(of, 1e3))
    words.append(page + frontier_plots.frontier_figure(of, 1e3).caption)
    corner = findings.joint(of)[0]
    words[-1] += corner + residual_plots.residuals_figure(of).caption
  some = ('log(1 + P/P₀)', '<th>P</th>', 'P: tokens of pretraining', '1M pretrained, ', '× P')
  for phrase in (*some, 'tokens of pretraining ≈'):
    said = [text.replace('\u2009', ' ').count(phrase) for text in words]
    assert said[0] > 0 and said[1] == 0, (phrase, said)


@pytest.mark.parametrize('several', [False, True])
def test_a_run_of_rl_is_named_where_there_are_several(reading, several):
  measured = frontier.measured(reading.quality, 1e4)
  best = frontier.best_at(measured, [measured.table['total'].max()])
  best = best.assign(rl_algorithm='grpo(group=4)', rl_updates=40)
  table, after = measured.table, measured.table['rl_updates'] > 0
  if several:
    name = np.where(table['rl_updates'] == 40, 'grpo(group=4)', 'grpo(group=16)')
    table = table.assign(rl_algorithm=table['rl_algorithm'].where(~after, name))
  (line,) = frontier_words.best_split(measured._replace(table=table), best)
  assert ('40 RL updates of grpo(group=4), ' if several else '40 RL updates, ') in line


def test_no_queries_are_no_queries(reading):
  assert ' for 0 queries (' in findings.main(reading, 0.0)[0]
  assert ' for 0 queries (' in frontier_plots.frontier_figure(reading, 0.0).caption
  assert frontier_plots.split_figure(reading, 0.0).title.endswith(', 0 queries')
  assert ' 0 queries, ' in ' '.join(report._frontier(reading, 0.0))


def test_a_budget_too_small_within_the_ranges_may_buy_something_beyond(reading, monkeypatch):
  problem = frontier.problem(reading.majority, reading.quality, 1e3)
  beyond, within = (planning.cheapest(problem, inside) for inside in (False, True))
  budgets = [(beyond * within) ** 0.5, 10 * within]
  monkeypatch.setattr(frontier, 'default_budgets', lambda table: budgets)
  parts = report._frontier(reading, 1e3)
  rows = [part.count('<tr>') for part in parts if '<table>' in part]
  assert beyond < within and rows == [2, 3]  # a head, and a row for each budget that buys a split


def test_a_law_of_budgets_that_share_a_trunk_says_that_its_intervals_are_too_narrow(reading, page):
  assert findings.TRUNKS in page[0].split('Held-out loss: L(N, D)')[1].split('<h3>')[0]
  assert findings.TRUNKS in plots.loss_figure(reading).caption
  records = reading.study.records
  apart = reading.study._replace(records=records.assign(trunk=records['stage']))
  assert findings.trunks(reading._replace(study=apart)) == []
  assert findings.trunks(reading._replace(loss_fit=None)) == []


def test_a_split_that_stays_the_best_is_said_once(reading):
  measured = frontier.measured(reading.quality, 1e4)
  top = measured.table['total'].max()
  lines = frontier_words.best_split(measured, frontier.best_at(measured, [top, 10 * top]))
  assert len(lines) == 1 and f'still the best of {style.flops(10 * top)}' in lines[0]
  assert ' SFT, ' in lines[0] and ' RL, ' in lines[0]


def test_stages_that_were_not_finite_come_first(workdir, reading, tmp_path):
  broken = tmp_path / 'w'
  shutil.copytree(workdir, broken)
  stages = tables.read(broken).plan['stages']
  last = [stage for stage in stages if stage['kind'] == 'rl'][-1]
  bank = next(stage for stage in stages if stage['parent'] == last['id'])
  for stage, outcome in ((last, 'non-finite'), (bank, 'parent failed')):
    folder = broken / 'stages' / stage['id']
    (folder / 'done.json').write_text(json.dumps({'outcome': outcome}))
  shutil.rmtree(tables.bank_folder(broken, bank))
  (broken / 'stages' / bank['id'] / 'records.parquet').unlink()
  said = findings.main(reading._replace(study=tables.read(broken)))
  assert said[0].startswith('1 stage met a number that was not finite and stopped there: rl 150k')
  assert '1 stage that would have gone on from there was left out' in said[0]
  assert findings.endings(reading) == []


def test_the_frontier_figure_s_texts_do_not_overlap(reading):
  figure = frontier_plots.frontier_figure(reading).figure
  figure.canvas.draw()
  texts = [text for text in figure.axes[0].texts if 'k = ' in text.get_text()]
  boxes = [text.get_window_extent() for text in texts]
  assert len(boxes) == 3
  assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
  edges = figure.bbox
  assert all(edges.x0 <= box.x0 and box.x1 <= edges.x1 for box in boxes)
  labels = figure.axes[0].get_legend_handles_labels()[1]
  assert "the law's choice, extrapolated" in labels


def test_training_curves_draw_every_run_once(reading):
  sft, rl = plots.curves_figure(reading).figure.axes
  assert tuple(axes.get_title(loc='left') for axes in (sft, rl)) == ('SFT', 'RL')
  segments = reading.study.curves.query("kind == 'sft'")['stage'].nunique()
  drawn = [line for line in sft.lines if len(line.get_xdata())]
  assert len(drawn) == segments == 15
  assert len(rl.lines) == len(SMALL.rl_gain)  # the segments of a run are one line
  assert all(len(line.get_xdata()) == SMALL.updates[-1] for line in rl.lines)
  none = reading._replace(study=reading.study._replace(curves=pd.DataFrame()))
  assert plots.curves_figure(none) is None


def test_command_line(workdir, tmp_path, capsys):
  figures = f'--figures={tmp_path / "f"}'
  assert report.main([str(workdir), '--study=synthetic', '--queries=1e3', figures]) == 0
  names = {path.stem for path in (tmp_path / 'f').glob('*.png')}
  assert {'loss', 'coverage', 'rl', 'frontier', 'splits', 'ledger'} <= names
  printed = capsys.readouterr().out
  assert 'for 1k queries' in printed and printed.strip().endswith('report-synthetic.html')
  assert report.main([str(tmp_path / 'f')]) == 2
  error = capsys.readouterr().err
  assert 'no study has run' in error and error.count('\n') == 1
  for wrong in ('nan', '-1e9', 'inf', 'many', '1e3,1e4'):
    assert report.main([str(workdir), f'--queries={wrong}']) == 2
    error = capsys.readouterr().err
    assert f'--queries={wrong}: ' in error and error.count('\n') == 1


def test_ledger_finding_adds_up(reading):
  total = sum(sum(done['ledger']['model'].values()) for done in reading.study.outcomes.values())
  line = findings.ledger(reading)[0]
  assert style.flops(total) in line and 'executed' in line and '1.40 times' in line


def test_captions_are_the_findings(reading):
  drawn = {d.name: d.caption for d in plots.all_figures(reading)}
  measured = frontier.measured(reading.quality, frontier.default_queries(reading.quality))
  best = frontier.best_at(measured, frontier.default_budgets(measured.table))
  assert drawn['loss'] == '\n'.join([*findings.loss(reading), findings.TRUNKS])
  assert all(line in drawn['frontier'] for line in frontier_words.best_split(measured, best))


def test_residuals_are_the_fits_own_errors(reading):
  _, _, points = residual_plots._loss_residuals(reading)
  held = points.loc[points['held_out'], 'residual']
  assert np.sqrt(np.mean(held**2)) == pytest.approx(100 * reading.loss_fit.holdout_error)
  _, _, points = residual_plots._rl_residuals(reading)
  assert len(points) == sum(law.rows + law.held for law in reading.rl_fits.values())
  caption = residual_plots.residuals_figure(reading).caption
  assert (
    'loss, %: ' in caption and 'RL, points of pass@1: ' in caption and 'majority@4: ' in caption
  )


@pytest.mark.parametrize(
  'value, unit, text',
  [
    (1e6, '', '1M'),
    (25_000, '', '25k'),
    (1.6e6, '', '1.6M'),
    (999_999, '', '1M'),
    (120, '', '120'),
    (0, '', '0'),
    (2e9, '', '2B'),
    (2e9, 'FLOP', '2 GFLOP'),
    (3.21e12, 'FLOP', '3.2 TFLOP'),
  ],
)
def test_human_units(value, unit, text):
  assert style.human(value, unit) == text


def test_analysis_imports_nothing_of_scaling_but_the_ledger():
  for path in (ROOT / 'analysis').rglob('*.py'):
    for node in ast.walk(ast.parse(path.read_text())):
      names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
      if isinstance(node, ast.ImportFrom):
        names = [f'{node.module}.{alias.name}' for alias in node.names]
      bad = [n for n in names if n.split('.')[0] == 'scaling']
      assert all(n.startswith('scaling.compute') for n in bad), f'{path}: {bad}'


@pytest.mark.parametrize('middle, said', [(0.2, True), (0.295, False), (0.4, False)])
def test_a_smaller_model_that_is_best_is_named(middle, said):
  sizes = ['25k', '75k', '400k']
  losses = pd.DataFrame({'model': sizes, 'params_non_embedding': [2.5e4, 7.5e4, 4e5]})
  losses = losses.assign(tokens=1e6, value=[0.5, middle, 0.3], stderr=0.01, seeds=1)
  words = findings._best_size(losses, 1e6)
  assert ('not the largest model but 75k, 0.200' in words) == said and bool(words) == said


def test_imported_pretraining_is_said_to_be_estimated_or_unknown(reading):
  records = reading.study.records
  assert findings.imported(records) == []
  first, second = sorted(set(records['model']))[:2]
  source = records['model'].map({first: 'estimated', second: 'unknown'}).fillna('counted')
  estimated, unknown = findings.imported(records.assign(pretrain_source=source))
  assert estimated.startswith(f'The pretraining FLOPs of {first} are estimated from')
  assert unknown.startswith(f'The pretraining FLOPs of {second} are unknown and left out')
