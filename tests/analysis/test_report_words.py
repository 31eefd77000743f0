"""What a report calls things, and what it leaves out: runs of RL, smoke variants, one budget."""

import numpy as np
import pytest
import synthetic

from analysis import plots, readings, report, report_tables, tables, test_time_plots
from analysis.interpret import interpret

SMALL = synthetic.Truth(sizes=('75k',), budgets=(4e5, 1.6e6), updates=(10, 40), samples=8)


@pytest.fixture(scope='module')
def reading(tmp_path_factory):
  return interpret(tables.read(synthetic.write(tmp_path_factory.mktemp('report') / 'w', SMALL)))


def _of_two_runs(cells):
  """Cells as of a study whose runs of RL were two, one of 10 and one of 40 updates."""
  runs = np.select([cells['rl_updates'] == 10, cells['rl_updates'] == 40], ['grpo', 'dapo'], 'none')
  return cells.assign(rl_algorithm=runs)


def _legend(drawing) -> list[str]:
  (legend,) = drawing.figure.legends
  return [text.get_text() for text in legend.get_texts()]


def test_of_several_runs_the_coverage_table_and_figure_name_each(reading):
  assert 'of' not in report_tables.coverage(reading.coverage)
  assert _legend(plots.coverage_figure(reading))[-1] == 'the largest SFT, then RL'
  cells = _of_two_runs(reading.coverage)
  table = report_tables.coverage(cells)
  assert dict(zip(table['RL updates'], table['of'])) == {0: '', 10: 'grpo', 40: 'dapo'}
  drawn = _legend(plots.coverage_figure(reading._replace(coverage=cells)))
  assert sorted(drawn[-2:]) == ['then dapo', 'then grpo']


def test_of_several_runs_the_figures_of_test_time_name_the_one(reading):
  row = reading.coverage[reading.coverage['rl_updates'] == 40].iloc[0].to_dict()
  row |= {'rl_algorithm': 'dapo', 'sft_tokens': 1.6e6}
  said = [test_time_plots._cell_words(row, several) for several in (False, True)]
  assert said == ['1.6M SFT tokens, 40 RL updates', '1.6M SFT tokens, 40 RL updates of dapo']
  assert [
    readings.several_runs(cells) for cells in (reading.coverage, _of_two_runs(reading.coverage))
  ] == [False, True]


def test_the_figure_of_rl_has_a_key_of_its_runs(reading):
  drawing = plots.rl_figure(reading)
  assert _legend(drawing) == ['75k, SFT 400k', '75k, SFT 1.6M']
  handles = drawing.figure.legends[0].legend_handles
  left = {line.get_color() for line in drawing.figure.axes[0].lines if len(line.get_xdata())}
  assert {handle.get_color() for handle in handles} <= left


def test_the_texts_of_a_coverage_figure_of_one_size_are_within_it(reading):
  figure = plots.coverage_figure(reading).figure
  figure.draw_without_rendering()
  assert 0 <= figure._suptitle.get_window_extent().x0
  assert figure._suptitle.get_window_extent().x1 <= figure.bbox.x1


def test_a_loss_at_one_budget_is_not_drawn_against_budgets(tmp_path, reading):
  one = interpret(tables.read(synthetic.write(tmp_path, SMALL._replace(budgets=(4e5,)))))
  assert len(one.losses) == 1 and plots.loss_figure(one) is None
  assert plots.loss_figure(reading) is not None


@pytest.mark.parametrize(
  ('name', 'experiment', 'smoke'),
  [
    ('quickstart', 'quickstart.py', False),
    ('smoke_alarm', 'smoke_alarm.py', False),
    ('quickstart_smoke', 'mine.py', True),
    ('gcd', 'quickstart.py:smoke', True),
    ('api', 'api_best_of_n.py:openai/MODEL,smoke', True),
  ],
)
def test_a_smoke_variant_is_known_by_its_name_or_its_command(reading, name, experiment, smoke):
  command = f'python run.py --config=experiments/{experiment} --workdir=results/smoke'
  study = reading.study._replace(name=name, plan=reading.study.plan | {'command': command})
  assert report._is_smoke(study) == smoke


def test_what_a_run_prints_is_three_findings_and_where_all_are():
  said = report.closing('w/report-x.html', list('abcde')).splitlines()
  assert said == ['- a', '- b', '- c', '', 'The report: w/report-x.html (all 5 findings)']
  assert report.closing('r.html', ['a']) == '- a\n\nThe report: r.html'


def test_words_are_defined_and_a_smoke_variant_says_that_its_numbers_mean_nothing(reading):
  page, _ = report.render(reading._replace(study=reading.study._replace(name='x_smoke')))
  assert report.SMOKE in page
  for term in ('cell', 'trunk, branch', 'bank', 'verdict, gold', 'split', 'SFT tokens'):
    assert f'<dt>{term}</dt>' in page
