"""The sampling benchmark, at its smallest, writes the form that every benchmark has."""

import json

from benchmarks import sample, sample_workers


def test_the_file_has_the_form(tmp_path, capsys):
  out = tmp_path / 'sample.json'
  sample.main([f'--out={out}', '--quick', '--tools=jax-loop'])
  found = json.loads(out.read_text())
  assert set(found) == {'machine', 'rows', 'skipped'} and found['skipped'] == {}
  assert [(r['tool'], r['work'], r['metric']) for r in found['rows']] == [
    (tool, 'tiny', metric)
    for tool in ('postscale', 'jax-loop')
    for metric in ('tokens_per_second', 'peak_memory', 'first_call_seconds')
  ]
  assert all(0 < row['min'] <= row['median'] <= row['max'] for row in found['rows'])
  assert 'tokens_per_second' in capsys.readouterr().out


def test_lengths_are_the_same_for_all_tools_and_of_the_mean_that_is_said():
  works = sample.works()
  of = lambda name: sample_workers.lengths(works[name].__dict__)
  assert (of('16x16') == 128).all() and of('16x16').shape == (16, 16)
  drawn = of('geometric')
  assert drawn.shape == (64, 16) and drawn.min() >= 1 and drawn.max() == 128
  assert 50 < drawn.mean() < 60  # of 64 (1 - (1 - 1 / 64)^128) = 55.5
