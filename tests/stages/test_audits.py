"""Audits of a workdir's scores and verdicts, on a bank made up."""

import functools
import json
import types

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis import audits, estimators
from scaling import bank, compute
from scaling.data.batches import Problem
from scaling.errors import BadInput
from scaling.rewards import audit as rates
from scaling.rewards import verifiers
from scaling.stages import audit
from scaling.stages import stage as stages

P, N = 40, 16


def begin(workdir, stage):
  folder = stages.folder(workdir, stage.id)
  folder.mkdir(parents=True)
  (folder / 'stage.json').write_text(json.dumps(stage._asdict()))
  return folder


@pytest.fixture(scope='module')
def workdir(tmp_path_factory):
  """A bank whose response is its verdict, scored by three models, and rescored."""
  workdir, rng = tmp_path_factory.mktemp('audits'), np.random.default_rng(0)
  recipe = {'seed': 0, 'n': N, 'problems': P}
  drawn = stages.make('sample', 'sft-1', 'bank', recipe)
  begin(workdir, drawn)
  right = rng.random((P, N)) < rng.beta(1, 2, P)[:, None]
  rows = [
    dict(stage=drawn.id, problem=f'p{p}', place=p, prompt='', sample=s, response=str(right[p, s]))
    | dict(tokens=[3], logprobs=[0.0], sampler_logprobs=[0.0], length=1, stopped=True, answer='')
    | dict(correct=right[p, s], reward=np.float32(right[p, s]), temperature=1.0, prompt_tokens=1)
    | dict(prefill_flops=1.0, decode_flops=1.0)
    for p in range(P)
    for s in range(N)
  ]
  where = bank.folder_of(workdir, 'sft-1', recipe)
  bank.prepare(where, bank.identity('sft-1', recipe))
  bank.write(where, pd.DataFrame(rows), {})
  for name, noise in (('good', 0.2), ('bad', 0.75), ('blind', 0.05)):
    stage = stages.make('score', drawn.id, name, {'scorer': name})
    # 'blind' knows hard problems from easy ones, and nothing else
    truth = right.mean(axis=1, keepdims=True) if name == 'blind' else right
    scores = np.clip(truth + rng.normal(0, noise, right.shape), 0, 1)
    table = pd.DataFrame(rows)[['problem', 'sample']].assign(score=scores.ravel())
    table.sample(frac=1, random_state=0).to_parquet(begin(workdir, stage) / 'scores.parquet')
  problems = [Problem(f'p{p}', 'jsonl', '', '', '', {}) for p in range(P)]

  def verify(problem, response):  # accepts all of a few problems, and fails on another
    if problem.id == 'p9':
      return verifiers.Verdict(False, '', 'timeout')
    return verifiers.Verdict(response == 'True' or problem.id in ('p1', 'p2'), '')

  bank.rescore(where, problems, verify, 'lenient')
  return workdir


def found(workdir, label):
  for path in workdir.glob('stages/score-*/stage.json'):
    stage = json.loads(path.read_text())
    if stage['label'] == label:
      return stage['id']


def test_a_score_is_audited_by_its_bank(workdir):
  one = audit.of_scores(workdir, found(workdir, 'good'))
  scores = pd.read_parquet(
    stages.folder(workdir, found(workdir, 'good')) / 'scores.parquet'
  ).sort_values(['problem', 'sample'])
  stage = json.loads((stages.folder(workdir, found(workdir, 'good')) / 'stage.json').read_text())
  table = bank.of_stage(workdir, stage['parent']).sort_values(['problem', 'sample'])
  gold = table['correct'].to_numpy()
  said = rates.thresholded(gold, scores['score'], table['problem']) == 1
  assert one.audit.false_positive.value == said[~gold].mean()
  assert one.audit.false_negative.value == (~said)[gold].mean()
  exact = estimators.best_of_k(said.reshape(P, N), gold.reshape(P, N), 4).mean()
  assert one.ks == [1, 2, 4] and one.measured[2] == pytest.approx(exact)
  assert one.expected[2] == pytest.approx(one.measured[2], abs=0.03)
  assert one.measured[0] == pytest.approx(one.expected[0]) == pytest.approx(gold.mean())
  assert one.ceiling > audit.of_scores(workdir, found(workdir, 'bad')).ceiling + 0.1


def test_a_verifier_that_is_wrong_on_whole_problems(workdir):
  (where,) = (workdir / 'banks').iterdir()
  one = audit.of_verdicts(where, 'lenient')
  assert one.audit.failed == 1 / P and one.audit.false_positive.value > 0
  rate = one.audit.false_positive
  blind = stats.binomtest(round(rate.value * rate.trials), rate.trials).proportion_ci()
  assert rate.upper - rate.lower > 1.5 * (blind.high - blind.low)  # two problems make them all
  table = bank.read(where, ['problem', 'correct'])
  right = table.groupby('problem', sort=False)['correct'].sum()
  chance = right.index.isin(['p1', 'p2', 'p9'])  # it accepts all, or none, of their samples
  best = np.where(chance, right / N, estimators.pass_at_k(N, right, 4))
  assert one.measured[2] == pytest.approx(best.mean())


def test_the_gate_lets_the_good_one_through(workdir):
  good = audit.gate(workdir, found(workdir, 'good'), 0.9)
  assert good.audit.accuracy > 0.95
  with pytest.raises(
    BadInput, match=r'^score-\w+ \(bad\): balanced accuracy 0\.\d+ on 640 samples'
  ):
    audit.gate(workdir, found(workdir, 'bad'), 0.9)
  audit.gate(workdir, found(workdir, 'bad'), 0)
  blind = audit.of_scores(workdir, found(workdir, 'blind'))
  assert blind.audit.accuracy > 0.6 and 0.4 < blind.within[0] < 0.6
  with pytest.raises(BadInput, match=r'\(blind\): of a right and a wrong sample of one problem'):
    audit.gate(workdir, found(workdir, 'blind'), 0.6)
  with pytest.raises(BadInput, match=r'score-0: no scores\.parquet'):
    audit.gate(workdir, 'score-0', 0.9)


@pytest.fixture(scope='module')
def judged(workdir):
  """A stage of RL before its first update, and how often its judge was asked."""
  (drawn,) = workdir.glob('stages/sample-*')
  recipe = {'scored': drawn.name, 'reward': 'judge 25k', 'least_accuracy': 0.9}
  stage = stages.make('rl', 'sft-1', 'rl', recipe)
  begin(workdir, stage)
  problems = [Problem(f'p{p}', 'jsonl', '', '', '', {}) for p in range(P)]
  setting, asked = types.SimpleNamespace(workdir=workdir), []

  def says(problems, texts, sequences, prompt_lengths):
    asked.append([(problem.id, group) for problem, group in zip(problems, texts, strict=True)])
    values = [[0.9 * (text == 'True') for text in group] for group in texts]
    return np.array(values), compute.empty()

  return stage, lambda least: audit.gate_judge(
    setting, stage._replace(recipe=recipe | {'least_accuracy': least}), problems, says
  ), asked  # fmt: skip


def test_a_judge_is_asked_once_before_rl_and_refused_where_it_errs(workdir, judged):
  stage, gate, asked = judged
  assert gate(0.9) == gate(0.9) == compute.empty()
  (one,) = asked
  assert len(one) == P and all(len(texts) == audit.JUDGED for _, texts in one)
  path = stages.folder(workdir, stage.id) / 'judged.parquet'
  table = pd.read_parquet(path)
  assert (table['score'].gt(0.5) == table['correct']).all() and len(table) == P * audit.JUDGED
  found = audit.of_judge(path.parent)
  assert found.audit.accuracy == 1 and found.ks == [1, 2]
  wrong = table.assign(score=np.where(table['sample'] % 2, 0.5, table['score']))
  wrong.to_parquet(path)
  with pytest.raises(BadInput, match=r'^rl-\w+ \(judge 25k\): balanced accuracy'):
    gate(0.95)
  table.to_parquet(path)


def test_what_cannot_be_audited_is_said_and_the_others_are(workdir, monkeypatch, capsys):
  good, known = found(workdir, 'good'), audit.everything(workdir)
  never = functools.partial(rates.audit, [False], [0], ['p0'])
  monkeypatch.setattr(audit, 'everything', lambda _: {'score-0': never, good: known[good]})
  assert audit.main([str(workdir)]) == 0
  said = capsys.readouterr()
  assert said.out.count('balanced accuracy') == 1
  assert said.err.startswith('score-0: audit: all of the 1 samples are wrong')
  assert said.err.count('\n') == 1 and set(audits.load(workdir)['what']) == {f'{good} (good)'}
  monkeypatch.setattr(audit, 'everything', lambda _: {'score-0': never})
  assert audit.main([str(workdir)]) == 2 and 'score-0: audit' in capsys.readouterr().err


def test_the_command_prints_them_all(workdir, judged, tmp_path, capsys):
  assert audit.main([str(workdir)]) == 0
  said = capsys.readouterr().out
  assert said.count('balanced accuracy') == 5 and 'verifier lenient of' in said
  assert 'no verdict on 0.025' in said and said.count('best of 4') == 4 and '(judge 25k)' in said
  drawing = audits.picture(audits.load(workdir))
  assert drawing.caption.count('balanced accuracy') == 5
  assert audits.main([str(workdir), f'--out={tmp_path / "a.png"}']) == 0
  assert (tmp_path / 'a.png').stat().st_size > 10_000
  assert audits.main([str(tmp_path)]) == 2 and audit.main([str(tmp_path)]) == 2
  assert 'no scores and no rescored bank' in capsys.readouterr().err
  (tmp_path / 'audits.parquet').write_bytes(b'PAR1 cut off')
  assert audits.main([str(tmp_path)]) == 2
  error = capsys.readouterr().err
  assert 'audits.parquet: not readable' in error and error.count('\n') == 1
