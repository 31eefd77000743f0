"""Stage `preference`: a reward model, trained on what a bank's samples were worth.

It begins with the parameters of a branch of its own size, whose unembedding a scalar head replaces,
and goes over the bank `epochs` times. The objectives are those of `scaling.rewards.reward_model`;
'process' reads the labels of a stage of kind rollouts. The rate falls to zero at the end.

A part of the problems is held out: the values of their responses are calibrated on it. done.json
has 'scorer': {objective, calibration, held_out: its quality, reliability, problems_without_pairs,
no_verdict: samples of the bank that are left out, since the verifier could not judge them}.

With recipe['pairs'] {path, fingerprint} the pairs are those of a file (`data.preferences`) and
there is no bank; a part of its prompts is held out, and 'scorer' has {objective, calibration,
held_out: {pairs, accuracy: [value, standard error over prompts]}, and how many pairs were equal,
repeated and dropped}. Where the parent is a reward model too, this one goes on from it.
"""

import math

import numpy as np
import pandas as pd

from analysis import estimators
from scaling import bank, compute, files, losses, records, sharding, train_step
from scaling.data import preferences
from scaling.errors import BadInput
from scaling.model import transformer
from scaling.rewards import reward_model
from scaling.search import generate, outcome
from scaling.stages import stage as stages

READ = ['problem', 'prompt', 'sample', 'tokens', 'correct']  # columns of the bank
SCORED_ROWS = 64  # of the held-out samples at a time


def _bank_recipe(workdir, stage_id: str) -> dict:
  path = stages.folder(workdir, stage_id) / 'stage.json'
  if not path.exists():
    raise BadInput(f'{path}: no such stage; a bank is named by the id of a stage of kind sample')
  stage = files.read_json(path)
  if stage['kind'] != 'sample':
    raise BadInput(
      f'{path}: a stage of kind {stage["kind"]}: a reward model reads the bank of a stage of kind '
      'sample, which has tokens'
    )
  return stage['recipe']


def pool_of(setting: stages.Setting, recipe: dict) -> str:
  """The pool of problems that a recipe's bank is of."""
  return _bank_recipe(setting.workdir, recipe['bank'])['pool']


def read_bank(
  workdir, recipe: dict, vocab, stage_id: str | None = None, columns=READ
) -> pd.DataFrame:
  """The rows of a bank, by default the recipe's own; READ, or more columns of it.

  BadInput where it was drawn with another vocabulary or another form of prompt than the recipe's.
  """
  stage_id = recipe['bank'] if stage_id is None else stage_id
  drawn = _bank_recipe(workdir, stage_id)
  for key in ('vocab', 'style'):
    if drawn['data'][key] != recipe['data'][key]:
      raise BadInput(
        f'bank {stage_id}: drawn with data.{key}={drawn["data"][key]!r}, and the model that reads '
        f'it has {recipe["data"][key]!r}: use a bank of this study'
      )
  table = bank.of_stage(workdir, stage_id, columns)
  most = max((int(np.max(tokens)) for tokens in table['tokens'] if len(tokens)), default=0)
  if most >= recipe['model']['vocab_size']:
    raise BadInput(
      f'bank {stage_id}: has token {most}, and the model that reads it {vocab.size} of them: it is '
      "another model's bank"
    )
  return table


def read_pairs(recipe: dict, vocab) -> tuple[preferences.File, preferences.Tokenised]:
  """(what the recipe's file of pairs holds, its pairs as tokens). BadInput where it has changed."""
  path, known = recipe['pairs']['path'], recipe['pairs']['fingerprint']
  if preferences.fingerprint(path) != known:
    raise BadInput(f'{path}: changed since the study was planned; run it again')
  found, data = preferences.read(path), recipe['data']
  return found, preferences.tokenise(found.pairs, vocab, data['row_tokens'], data['long_examples'])


def aside(prompts: np.ndarray, recipe: dict) -> np.ndarray:
  """bool [R]: which pairs of a file are held out: a part of the prompts. BadInput where all are."""
  out = reward_model.held_out(prompts, recipe['held_out'], recipe['seed'])
  found = np.array([prompt in out for prompt in prompts])
  if found.all():
    raise BadInput(
      f'{recipe["pairs"]["path"]}: {len(set(prompts))} distinct prompts, and all are held out: '
      'give more pairs'
    )
  return found


def prepare(recipe: dict, found: reward_model.Examples, labelled: reward_model.Examples | None):
  """(Examples to learn from, epoch_of, longest row, problems left out, rows held out of `found`).

  epoch_of(e) gives an epoch's items: rows of the examples, or pairs of them. BadInput where there
  is nothing to learn from, or to calibrate with.
  """
  objective, seed = recipe['objective'], recipe['seed']
  aside = reward_model.held_out(found.problems, recipe['held_out'], seed)
  out = np.array([problem in aside for problem in found.problems])
  right = found.correct
  if right.all() or not right.any():
    raise BadInput(
      f'bank {recipe["bank"]}: all of its {len(right)} samples are '
      f'{"right" if right.all() else "wrong"}: a reward model learns from both; take an easier or '
      'harder task, or another policy'
    )
  for rows, words, remedy in ((out, 'held out', 'raise'), (~out, 'learned from', 'lower')):
    if not rows.any() or right[rows].all() or not right[rows].any():
      raise BadInput(
        f'bank {recipe["bank"]}: the samples that are {words} are not both right and wrong: '
        f'{remedy} config.scorers.held_out={recipe["held_out"]}, or raise data.reward_problems'
      )
  lengths = np.array([len(sequence) for sequence in found.sequences])
  if objective == 'pairs':
    learned = np.flatnonzero(~out)
    both, without = reward_model.contrasts(found.problems[learned], right[learned])
    if not both:
      raise BadInput(
        f'bank {recipe["bank"]}: no problem has both a right and a wrong sample, so there are no '
        'pairs: raise config.scorers.n'
      )
    both = {problem: (learned[r], learned[w]) for problem, (r, w) in both.items()}
    longest = max(int(lengths[r].max() + lengths[w].max()) for r, w in both.values())
    return found, lambda e: reward_model.pairs(both, seed, e), longest, without, out
  source = found if objective == 'outcome' else labelled
  rows = np.flatnonzero([problem not in aside for problem in source.problems])
  if not len(rows):
    raise BadInput(
      'labels: none is of a problem that is learned from: lower config.scorers.held_out'
    )
  longest = max(len(source.sequences[i]) for i in rows)
  return source, lambda e: reward_model.shuffled(rows, seed, e), longest, 0, out


def _from_bank(setting: stages.Setting, recipe: dict, vocab):
  """(Examples of the samples of the recipe's bank that have a verdict, those of its labelled steps
  or None, how many have no verdict)."""
  table = read_bank(setting.workdir, recipe, vocab, columns=[*READ, 'reward'])
  there = table['reward'].notna()
  found, lost = reward_model.examples(table[there], vocab), int((~there).sum())
  if recipe['objective'] != 'process':
    return found, None, lost
  labels = stages.folder(setting.workdir, recipe['labels']) / 'labels.parquet'
  if not labels.exists():
    raise BadInput(f'{labels}: not there; run its stage of kind rollouts')
  every = reward_model.examples(table, vocab)
  return found, reward_model.with_steps(every, table, pd.read_parquet(labels)), lost


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Trains to the end of the last epoch, then calibrates on the held-out problems."""
  recipe, mesh = stage.recipe, setting.mesh
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  how, objective = stages.mechanics(setting.how, recipe, mesh), recipe['objective']
  _check(recipe, cfg)
  _, data = stages.load_data(setting.workdir, recipe)
  if 'pairs' in recipe:
    file, source = read_pairs(recipe, data.vocab)
    out, left_out = aside(source.prompts, recipe), 0
    learned = source.rows[~out]
    lengths = np.array([len(sequence) for sequence in source.sequences])
    epoch_of = lambda e: reward_model.shuffled(learned, recipe['seed'], e)
    longest = int(lengths[learned].sum(axis=1).max())
  else:
    found, labelled, lost = _from_bank(setting, recipe, data.vocab)
    source, epoch_of, longest, left_out, out = prepare(recipe, found, labelled)
  B, width = recipe['rows'], reward_model.columns(longest, mesh)
  sharding.check_rows(mesh, B, 'config.scorers.rows')
  stop = max(1, math.ceil(recipe['epochs'] * len(epoch_of(0)) / B))
  batch_of = reward_model.walk(epoch_of, B)
  loss = losses.pairs if objective == 'pairs' else losses.pointwise
  train = train_step.make_train_step(cfg, loss, None, opt, mesh, how)

  def learn(state, step: int):
    if objective == 'pairs':
      rows = reward_model.pair_batch(source.sequences, batch_of(step), width)
    else:
      rows = reward_model.point_batch(source, batch_of(step), width)
    tokens, context = reward_model.counts(rows)
    rate = train_step.learning_rate(step, recipe['learning_rate'], recipe['warmup'], stop, stop)
    state, metrics = train(state, sharding.spread(sharding.batch(mesh), rows), rate, 1.0)
    spent = compute.train(cfg, tokens, context, B, width, how.remat, how.loss_chunk)
    return state, {'learning_rate': rate, 'tokens': tokens, **metrics}, spent

  begun = stages.begin(setting, stage)
  watched = 'loss', 'accuracy', 'grad_norm', 'learning_rate'
  state, ledger, seconds = stages.train(setting, stage, begun, learn, stop, watched)

  if 'pairs' in recipe:
    scorer, spent = calibrate_pairs(setting, cfg, how, state.params, source, out)
    scorer |= {'equal': file.equal, 'repeated': file.repeated, 'dropped': source.dropped}
  else:
    scorer, spent = calibrate(setting, stage, cfg, how, state.params, found, labelled, out)
    scorer['no_verdict'] = lost
  ledger = compute.add(ledger, spent)
  scorer |= {'objective': objective, 'problems_without_pairs': left_out}
  cell, path = stages.path_of(setting, stage)
  if 'pairs' in recipe:
    (value, stderr), count = scorer['held_out']['accuracy'], scorer['held_out']['pairs']
    row = records.row(
      stage, cell, path, setting.environment, metric='pair_accuracy', value=value, stderr=stderr,
      problems=count, scorer=stage.id,
    )  # fmt: skip
    records.write(setting.workdir, stage.id, [row])
  meta = {'ledger': ledger, 'seconds': seconds(), 'scorer': scorer}
  stages.finish(setting, stage, cell, path, meta)


def _check(recipe: dict, cfg: transformer.ModelConfig) -> None:
  objective = recipe['objective']
  if objective not in reward_model.OBJECTIVES:
    known = ', '.join(reward_model.OBJECTIVES)
    raise BadInput(f'config.scorers.objectives has {objective!r}: it must be one of {known}')
  if cfg.head != 'scalar':
    raise BadInput(f"preference: model.head is {cfg.head!r}: a reward model has head 'scalar'")
  if 'pairs' in recipe and objective != 'pairs':
    raise BadInput(f"preference: a file of pairs teaches 'pairs', and objective is {objective!r}")
  if objective == 'process' and recipe['labels'] is None:
    raise BadInput("preference: labels is None: 'process' needs the id of a stage of kind rollouts")
  if not 0 < recipe['held_out'] < 1:
    raise BadInput(
      f'config.scorers.held_out is {recipe["held_out"]}: it must be between 0 and 1: the part of '
      'the problems that calibrates'
    )


def calibrate(setting, stage, cfg, how, params, found, labelled, out) -> tuple[dict, dict]:
  """({calibration, held_out, reliability} of the held-out samples, ledger of scoring them).

  Calibrated on the verdicts, at the last tokens; a process reward model on the labels of its steps
  besides. The qualities are of the verdicts.
  """
  rows = np.flatnonzero(out)
  sequences = [found.sequences[i] for i in rows]
  places = [found.places[i] for i in rows]
  score = lambda s, p: reward_model.values(cfg, params, s, p, setting.mesh, how, SCORED_ROWS)
  values, ledger = score(sequences, places)
  last, verdicts = np.array([v[-1] for v in values]), found.correct[rows]
  fit = last, verdicts.astype(np.float64)
  if labelled is not None:
    aside = set(found.problems[rows])
    steps = [i for i, problem in enumerate(labelled.problems) if problem in aside]
    taken = [labelled.sequences[i] for i in steps], [labelled.places[i] for i in steps]
    if steps:
      of_steps, spent = score(*taken)
      ledger = compute.add(ledger, spent, model_cost(cfg, *taken))
      fit = tuple(
        np.concatenate([x, *more])
        for x, more in zip(fit, (of_steps, [labelled.labels[i] for i in steps]), strict=True)
      )
  calibration = reward_model.platt(*fit)
  probability = calibration(last)
  quality = reward_model.quality(probability, verdicts, found.problems[rows])
  table = reward_model.reliability(probability, verdicts)
  ledger = compute.add(ledger, model_cost(cfg, sequences, places))
  finite = lambda x: x if math.isfinite(x) else None
  return {
    'calibration': list(calibration),
    'held_out': {
      'problems': len(set(found.problems[rows])),
      'samples': len(rows),
      **{name: [finite(x) for x in pair] for name, pair in quality.items()},
    },
    'reliability': [
      {name: finite(x) for name, x in row.items()} for row in table.to_dict('records')
    ],
  }, ledger


def calibrate_pairs(setting, cfg, how, params, source, out: np.ndarray) -> tuple[dict, dict]:
  """({calibration, held_out} of the pairs of a file that are held out, ledger of scoring them).

  The calibration's slope s is that of maximum likelihood for sigma(s (v_chosen - v_rejected)),
  drawn in as `reward_model.platt` does; its offset puts the mean value at 1/2, since pairs say
  nothing of where a value is good.
  """
  pairs = source.rows[out]
  sequences = [source.sequences[i] for i in pairs.ravel()]
  places = [np.array([len(sequence) - 1]) for sequence in sequences]
  values, ledger = reward_model.values(
    cfg, params, sequences, places, setting.mesh, how, SCORED_ROWS
  )
  values = np.concatenate(values).reshape(-1, 2)
  margin = values[:, 0] - values[:, 1]
  count = len(margin)
  slope = reward_model.platt(
    np.concatenate([margin, -margin]), np.concatenate([np.ones(count), np.zeros(count)])
  ).slope
  right = np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0))
  by_prompt = pd.Series(right).groupby(source.prompts[out]).mean().to_numpy()
  value, stderr = estimators.mean_and_stderr(by_prompt)
  finite = lambda x: float(x) if math.isfinite(x) else None
  return {
    'calibration': [slope, float(-slope * values.mean())],
    'held_out': {'pairs': count, 'accuracy': [float(value), finite(stderr)]},
  }, compute.add(ledger, model_cost(cfg, sequences, places))


def model_cost(cfg, sequences, places) -> dict:
  """The model FLOPs of scoring whole sequences, as a ledger."""
  ledger = compute.empty()
  ledger['model']['reward_model'] = sum(
    reward_model.flops(cfg, len(s), 0, len(p)) for s, p in zip(sequences, places, strict=True)
  )
  return ledger


def load_scorer(setting: stages.Setting, scorer: str):
  """(cfg, params, how, Calibration, objective, recipe) of a finished reward model.

  BadInput where the stage is not one.
  """
  done = stages.done(setting.workdir, scorer)
  if done is None or 'scorer' not in done:
    raise BadInput(f'{stages.folder(setting.workdir, scorer)}: not a finished reward model')
  recipe = files.read_json(stages.folder(setting.workdir, scorer) / 'stage.json')['recipe']
  params = stages.state_of(setting.workdir, scorer, setting.mesh).params
  how = stages.mechanics(setting.how, recipe, setting.mesh)
  calibration = reward_model.Calibration(*done['scorer']['calibration'])
  return stages.model(recipe), params, how, calibration, recipe['objective'], recipe


def probabilities(setting: stages.Setting, scorer: str, table: pd.DataFrame, vocab):
  """(the probability of a right answer float64 [N] by a reward model, ledger) of a bank's rows."""
  cfg, params, how, calibration, _, _ = load_scorer(setting, scorer)
  found = reward_model.examples(table, vocab)
  values, ledger = reward_model.values(
    cfg, params, found.sequences, found.places, setting.mesh, how, SCORED_ROWS
  )
  if not all(np.isfinite(v).all() for v in values):
    raise ArithmeticError('values of a reward model')
  ledger = compute.add(ledger, model_cost(cfg, found.sequences, found.places))
  return calibration(np.concatenate(values)), ledger


def step_scorer(setting: stages.Setting, scorer: str):
  """(outcome.Scorer of a reward model, spent() -> its executed FLOPs since last asked, a ledger).

  It gives the probability of a right answer at each place; a sequence's own end may be one.
  """
  cfg, params, how, calibration, _, _ = load_scorer(setting, scorer)
  executed = [compute.empty()]

  def score(sequences, places):
    values, ledger = reward_model.values(
      cfg, params, sequences, places, setting.mesh, how, SCORED_ROWS, width=generate.width
    )
    executed[0] = compute.add(executed[0], ledger)
    if not all(np.isfinite(v).all() for v in values):
      raise ArithmeticError('values of a reward model')
    return [calibration(v).tolist() for v in values]

  def spent():
    ledger, executed[0] = executed[0], compute.empty()
    return ledger

  flops = lambda length, cached, marks=1: reward_model.flops(cfg, length, cached, marks)
  return outcome.Scorer(score, flops), spent
