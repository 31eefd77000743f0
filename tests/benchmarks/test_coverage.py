"""The simulation counts right: on intervals of which the coverage is known; and the laws' own."""

import json

import numpy as np
import pytest
from scipy import stats

from benchmarks import coverage


def normal_mean(width):
  """A case whose intervals hold the truth with probability erf: mean of 5 normals, sd known."""

  def intervals(rng):
    mean = rng.normal(3.0, 1.0, 5).mean()
    return {('mean', 'percentile'): (mean - width, mean + width)}

  return coverage.Case('5 normals', {'mean': 3.0}, intervals)


def test_known_coverage_is_found():
  for level in (0.95, 0.8):
    width = stats.norm.ppf((1 + level) / 2) / np.sqrt(5)
    (row,) = coverage.simulate('normal', normal_mean(width), 4000)
    assert abs(row['covered'] - level) < 4 * np.sqrt(level * (1 - level) / 4000)
    assert row['median_width'] == pytest.approx(2 * width)
    ends = stats.beta.ppf([0.025, 0.975], *_clopper_pearson(row))
    assert (row['low'], row['high']) == pytest.approx(tuple(ends))


def _clopper_pearson(row):
  inside = round(row['covered'] * row['sets'])
  outside = row['sets'] - inside
  return [inside, inside + 1], [outside + 1, outside]


def test_what_falls_short_is_said():
  rows = coverage.simulate('normal', normal_mean(0.3), 500)
  rows += [rows[0] | {'interval': 'profile', 'covered': 0.95, 'low': 0.93, 'high': 0.97}]
  page = coverage.page(rows)
  short = f'| 5 normals; 500 sets | mean | percentile | **{100 * rows[0]["covered"]:.1f} %'
  assert short in page and 'the profile interval does not fall short' in page
  assert 'None falls short' in coverage.page(rows[1:])


def test_the_truth_of_each_case_is_what_its_intervals_are_of():
  for name, case in coverage._cases().items():
    found = case.intervals(np.random.default_rng(0))
    assert {quantity for quantity, _ in found} == set(case.truth), name
    for (quantity, _), (low, high) in found.items():
      assert low - 2 * (high - low) < case.truth[quantity] < high + 2 * (high - low), name


@pytest.mark.slow
@pytest.mark.parametrize('law', ['power', 'beta-binomial'])
def test_the_intervals_of_the_laws(law, tmp_path):
  """At a tenth of the published simulation: the best interval of each parameter holds the truth
  in 95 % of the sets, within the noise of 200 sets at five standard errors."""
  assert coverage.main([f'--out={tmp_path / "c.json"}', f'--laws={law}', '--sets=200']) == 0
  rows = json.loads((tmp_path / 'c.json').read_text())['rows']
  assert (tmp_path / 'c.md').read_text().count('\n|') >= len(rows)
  best = {}
  for row in rows:
    best[row['quantity']] = max(best.get(row['quantity'], 0), row['covered'])
  assert all(share > 0.95 - 5 * np.sqrt(0.95 * 0.05 / 200) for share in best.values()), best
