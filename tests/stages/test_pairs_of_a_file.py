"""A reward model and DPO that learn from a file of pairs, and how good they are on others."""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scaling import bank, sharding
from scaling.data import batches, preferences
from scaling.errors import BadInput
from scaling.rewards import reward_model
from scaling.stages import dpo, preference, score, teachers
from scaling.stages import stage as stages
from tests.stages import by_hand as hand

workdir = hand.workdir

PROMPTS, EPOCHS = 48, 10
ASIDE = PROMPTS // 4  # held out
HH = Path(__file__).parents[2] / '../shared/data/hh_rlhf/harmless_base_test.jsonl.gz'


@pytest.fixture(scope='module')
def file(workdir):
  """Solutions, chosen; rejected, an answer without steps; one pair of two equal ones."""
  folder, _ = stages.load_data(workdir, hand.common())
  lines = [
    {'prompt': p.prompt, 'chosen': p.solution, 'rejected': hand.hasty(p.solution)}
    for p in batches.problems(folder, 'rl')[:PROMPTS]
  ]
  lines.append(lines[0] | {'rejected': lines[0]['chosen']})
  path = workdir / 'pairs.jsonl'
  path.write_text('\n'.join(map(json.dumps, lines)))
  return {'path': str(path), 'fingerprint': preferences.fingerprint(str(path))}


@pytest.fixture(scope='module')
def model(workdir, file):
  stage = hand.preferring(workdir, None, 'pairs', pairs=file, epochs=float(EPOCHS))
  preference.run(hand.setting_of(workdir), stage)
  return stage


def test_a_reward_model_learns_from_a_file(workdir, model):
  scorer = stages.done(workdir, model.id)['scorer']
  held_out = scorer['held_out']
  assert held_out['pairs'] == ASIDE and held_out['accuracy'] == [1.0, 0.0]
  assert (scorer['equal'], scorer['repeated'], scorer['dropped']) == (1, 0, 0)
  curve = pd.read_parquet(stages.folder(workdir, model.id) / 'metrics.parquet')
  assert len(curve) == math.ceil(EPOCHS * PROMPTS * 3 / 4 / 8)
  assert curve['loss'][0] == pytest.approx(np.log(2), rel=1e-5)
  (row,) = pd.read_parquet(stages.folder(workdir, model.id) / 'records.parquet').to_dict('records')
  assert (row['metric'], row['value'], row['problems']) == ('pair_accuracy', 1.0, ASIDE)


def test_its_calibration_is_of_margins_with_the_mean_value_at_a_half(workdir, model, file):
  cfg, params, _, calibration, *_ = preference.load_scorer(hand.setting_of(workdir), model.id)
  _, data = stages.load_data(workdir, model.recipe)
  _, tokens = preference.read_pairs(model.recipe, data.vocab)
  out = preference.aside(tokens.prompts, model.recipe)
  learned = set(tokens.prompts[~out])
  assert out.sum() == ASIDE and not learned & set(tokens.prompts[out])
  sequences = [tokens.sequences[i] for i in tokens.rows[out].ravel()]
  places = [[len(s) - 1] for s in sequences]
  values, _ = reward_model.values(cfg, params, sequences, places, sharding.make_mesh())
  values = np.concatenate(values)
  assert calibration(values.mean()) == pytest.approx(0.5)
  margin = values[::2] - values[1::2]
  # the likelihood's slope is 0 at Platt's targets, (n + 1) / (n + 2) and 1 / (n + 2) for n of each
  chance = 1 / (1 + np.exp(-calibration.slope * margin))
  assert np.mean((chance - (ASIDE + 1) / (ASIDE + 2)) * margin) == pytest.approx(0, abs=1e-3)


def test_it_scores_banks_and_gives_rewards(workdir, model):
  other = hand.written_bank(workdir, 'test', 4, hand.hasty, 'scored')
  recipe = hand.common() | dict(scorer=model.id, block_rows=16)
  stage = hand.begin(workdir, stages.make('score', other.id, 'score', recipe))
  score.run(hand.setting_of(workdir), stage)
  found = pd.read_parquet(stages.folder(workdir, stage.id) / 'scores.parquet')
  table = bank.of_stage(workdir, other.id)
  within = reward_model.auc_within(found['score'], table['correct'], table['problem'])
  assert within.mean() > 0.95  # of one prompt: pairs say nothing of others
  _, data = stages.load_data(workdir, recipe)
  problems = batches.problems(stages.load_data(workdir, recipe)[0], 'test')[:4]
  prompts = [data.vocab.prompt(p.prompt) for p in problems]
  sequences = [
    [[*prompt, *tokens] for tokens in table.loc[table['problem'] == p.id, 'tokens']]
    for p, prompt in zip(problems, prompts, strict=True)
  ]
  feedback = teachers.rewarding(hand.setting_of(workdir), model.id)
  rewards, ledger = feedback(problems, None, sequences, None)
  np.testing.assert_allclose(rewards.ravel(), found['score'], rtol=1e-4)
  assert ledger['model']['reward_model'] > 0


def test_dpo_learns_from_a_file(workdir, file):
  stage = hand.round_of(
    workdir, None, feedback='pairs', called='pairs', pairs=file, samples=0, epochs=4.0,
    length_normalised=True, beta=2.0,
  )  # fmt: skip
  dpo.run(hand.setting_of(workdir), stage)
  done = stages.done(workdir, stage.id)
  about = done['preferences']
  assert about['held_out'] == {'pairs': ASIDE, 'accuracy': [1.0, 0.0]}
  learned = PROMPTS - ASIDE
  assert (about['pairs'], about['equal'], about['steps']) == (learned, 1, 4 * learned // 8)
  (row,) = pd.read_parquet(stages.folder(workdir, stage.id) / 'records.parquet').to_dict('records')
  assert (row['metric'], row['value']) == ('pair_accuracy', 1.0)
  assert row['rl_algorithm'] == 'dpo pairs' and row['rl_samples'] == 0
  assert done['path']['rl']['model'] == pytest.approx(done['ledger']['model'])


def test_a_file_that_has_changed_or_that_holds_one_prompt_is_refused(workdir, file, tmp_path):
  run = lambda pairs: preference.run(
    hand.setting_of(workdir), hand.preferring(workdir, None, 'pairs', pairs=pairs)
  )
  with pytest.raises(BadInput, match=r'changed since the study was planned'):
    run(file | {'fingerprint': 'other'})
  path = tmp_path / 'one.jsonl'
  path.write_text(json.dumps({'prompt': '1+2=', 'chosen': '#3', 'rejected': '#4'}))
  one = {'path': str(path), 'fingerprint': preferences.fingerprint(str(path))}
  with pytest.raises(BadInput, match=r'one.jsonl: 1 distinct prompts, and all are held out'):
    run(one)
  with pytest.raises(
    BadInput, match=r"^preference: a file of pairs teaches 'pairs', and objective"
  ):
    preference.run(hand.setting_of(workdir), hand.preferring(workdir, None, 'outcome', pairs=file))
