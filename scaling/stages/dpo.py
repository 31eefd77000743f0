"""Stage `dpo`: one round of direct preference optimisation (2305.18290), offline or iterated.

A round begins with its parent's parameters, which are the reference of all of it, and goes over
its pairs `epochs` times; the rate falls to zero at the end. The pairs come from the bank of its
parent's samples, labelled by `feedback`, or from a file. Rounds in a row, each on fresh samples,
are the iterated form (2312.11456); where the labels are the policy's own, it rewards itself
(2401.10020).

    verifier     the task's verdict; none where it timed out, say
    majority     the part of the problem's samples with the same answer (2411.04109)
    likelihood   the policy's own log-probability of the response
    human        the problem's own solution is better than any other response (SPIN, 2401.01335)
    self, judge  a model's verdict on the response (`rewards.model_judge`): the policy's, another's
    scorer       a reward model's
    pairs        a file says which is better (`data.preferences`); a part of its prompts is held out

Of each problem, responses of the greatest value are paired with those of the least; problems whose
values are all the same are left out and counted. Under majority and likelihood a response without
an answer is below all with one. A response on which the verifier or a judge gave no verdict is
left out and counted.

done.json has 'preferences': {feedback, pairs (of an epoch), problems_without_pairs, failed, steps,
of a file equal, repeated, dropped and held_out {pairs, accuracy: [value, standard error]}}.
"""

import math
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import estimators
from scaling import (
  compute,
  files,
  preference_losses,
  processes,
  records,
  sharding,
  train_step,
)
from scaling.data import batches
from scaling.errors import BadInput
from scaling.rewards import model_judge, reward_model
from scaling.stages import preference, synthesize, teachers
from scaling.stages import stage as stages

FEEDBACK = ('verifier', 'majority', 'likelihood', 'human', 'self', 'judge', 'scorer', 'pairs')
READ = [*preference.READ, 'reward', 'answer', 'response', 'logprobs']
WATCHED = ('loss', 'accuracy', 'margin', 'chosen', 'rejected', 'grad_norm', 'learning_rate')
SCORED_ROWS = 32  # of held-out pairs at a time


class Source(NamedTuple):
  """What a round learns from."""

  sequences: list  # arrays int32: prompt and response
  starts: np.ndarray  # tokens of the prompt
  epoch_of: object  # e -> int64 [R, 2], the (chosen, rejected) of an epoch
  held_out: np.ndarray  # int64 [H, 2]: pairs that are not learned from
  clusters: np.ndarray  # object [H]: their prompts
  about: dict  # of done.json
  ledger: dict  # of labelling


def values_of(
  table: pd.DataFrame, feedback: str, judge=None, scorer=None
) -> tuple[np.ndarray, dict]:
  """(the value float64 of each response of a bank, ledger) by a kind of feedback; see the head.

  table: of READ; judge(prompts, responses) and scorer(table) -> (values, ledger), where used.
  """
  none = compute.empty()
  if feedback == 'verifier':
    return table['reward'].to_numpy(np.float64), none
  if feedback == 'human':
    gold = table[table['sample'] < 0].set_index('problem')['response']
    return (table['response'] == table['problem'].map(gold)).to_numpy(np.float64), none
  if feedback in ('majority', 'likelihood'):
    answered = table['answer'].notna().to_numpy()
    if feedback == 'majority':
      votes = table.groupby(['problem', 'answer'])['answer'].transform('size')
      value = (votes / table.groupby('problem')['problem'].transform('size')).to_numpy(np.float64)
    else:
      value = np.array([float(np.sum(x, dtype=np.float64)) for x in table['logprobs']])
    least = 0.0 if feedback == 'majority' else -math.inf
    return np.where(answered, value, least), none
  if feedback == 'scorer':
    return scorer(table)
  return judge(table['prompt'].tolist(), table['response'].tolist())


def labels(setting: stages.Setting, stage: stages.Stage, data, table: pd.DataFrame) -> dict:
  """{values: of each response, ledger} of the round's bank, made once and kept in labels.json."""
  path = stages.folder(setting.workdir, stage.id) / 'labels.json'
  there = processes.once(lambda: files.read_json(path) if path.exists() else None)
  if there is not None:
    return there
  recipe = stage.recipe
  judge = lambda prompts, responses: model_judge.grades(
    teachers.judge_tools(setting, recipe['grader'] or stage.parent, data, recipe['judge_tokens']),
    recipe['judge_by'],
    prompts,
    responses,
  )
  scorer = lambda table: preference.probabilities(setting, recipe['scorer'], table, data.vocab)
  try:
    values, ledger = values_of(table, recipe['feedback'], judge, scorer)
  except ArithmeticError as error:
    raise stages.NonFinite(f'labels: {error}', compute.empty()) from error
  found = {'values': values.tolist(), 'ledger': ledger}
  files.write_json(path, found)
  return found


def from_bank(setting: stages.Setting, stage: stages.Stage, data) -> Source:
  """The Source of a bank.

  BadInput where no problem has responses of different values in a first round; a later one then
  leaves the policy as it is.
  """
  recipe = stage.recipe
  table = preference.read_bank(setting.workdir, recipe, data.vocab, columns=READ)
  if recipe['feedback'] == 'human':
    table = with_solutions(setting, recipe, data.vocab, table)
  found = labels(setting, stage, data, table)
  values = np.array(found['values'], np.float64)
  kept = ~np.isnan(values)
  examples = reward_model.examples(table, data.vocab)
  rows = np.flatnonzero(kept)
  both, without = reward_model.contrasts(examples.problems[rows], values[rows])
  parent = files.read_json(stages.folder(setting.workdir, stage.parent) / 'stage.json')
  if not both and parent['kind'] != 'dpo':
    raise BadInput(
      f'bank {recipe["bank"]}: by feedback {recipe["feedback"]!r} no problem has a better and a '
      f'worse response ({len(rows)} of {len(values)} have a value): raise config.dpo.n or '
      'config.dpo.problems, or take an easier or harder task'
    )
  both = {problem: (rows[best], rows[worst]) for problem, (best, worst) in both.items()}
  seed, most = recipe['seed'], recipe['pairs_per_problem']
  return Source(
    examples.sequences,
    examples.starts,
    lambda e: reward_model.pairs(both, seed, e, most) if both else np.zeros((0, 2), np.int64),
    np.zeros((0, 2), np.int64),
    np.zeros(0, object),
    {'problems_without_pairs': without, 'failed': int((~kept).sum())},
    found['ledger'],
  )


def with_solutions(setting: stages.Setting, recipe: dict, vocab, table) -> pd.DataFrame:
  """A bank's rows, and behind them its problems' own solutions, as sample -1."""
  folder, _ = stages.load_data(setting.workdir, recipe)
  sampled = set(table['problem'])
  rows = [
    dict(
      problem=p.id, prompt=p.prompt, sample=-1, tokens=[*vocab.encode(p.solution), vocab.stop],
      correct=True, reward=1.0, answer=p.answer, response=p.solution,
    )
    for p in batches.problems(folder, preference.pool_of(setting, recipe)) if p.id in sampled
  ]  # fmt: skip
  return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def from_file(setting: stages.Setting, stage: stages.Stage, data) -> Source:
  """The Source of a file of pairs."""
  recipe = stage.recipe
  found, tokens = preference.read_pairs(recipe, data.vocab)
  aside = preference.aside(tokens.prompts, recipe)
  learned = tokens.rows[~aside]
  return Source(
    tokens.sequences,
    tokens.starts,
    lambda e: reward_model.shuffled(learned, recipe['seed'], e),
    tokens.rows[aside],
    tokens.prompts[aside],
    {'equal': found.equal, 'repeated': found.repeated, 'dropped': tokens.dropped},
    compute.empty(),
  )


def pair_batch(sequences, starts, chosen: np.ndarray, width: int, normalised: bool) -> dict:
  """A batch for preference_losses.dpo: in each row a pair; all rows weigh alike, and within a row
  all tokens of responses. chosen: [B, 2]; normalised: divide by the response's length."""
  batch = reward_model.pair_batch(sequences, chosen, width)
  marks = np.zeros(batch['tokens'].shape, np.float32)
  for row, pair in enumerate(chosen):
    at = 0
    for sign, i in zip((1, -1), pair, strict=True):
      begin, end = at + starts[i], at + len(sequences[i])
      marks[row, begin:end] = sign / (end - begin) if normalised else sign
      at = end
  counted = (marks != 0).astype(np.float32)
  batch['weights'] = counted / counted.sum(axis=1, keepdims=True) / np.float32(len(chosen))
  return batch | {'marks': marks}


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Labels the pairs, trains to the end of the last epoch, and measures on pairs held out."""
  recipe, mesh = stage.recipe, setting.mesh
  check(recipe)
  cfg, opt = stages.model(recipe), stages.optimizer(recipe)
  how = stages.mechanics(setting.how, recipe, mesh)
  _, data = stages.load_data(setting.workdir, recipe)
  source = (from_file if recipe['feedback'] == 'pairs' else from_bank)(setting, stage, data)
  first = source.epoch_of(0)
  lengths, B = np.array([len(sequence) for sequence in source.sequences]), recipe['rows']
  sharding.check_rows(mesh, B, 'config.dpo.rows')
  stop = math.ceil(recipe['epochs'] * len(first) / B)
  batch_of = reward_model.walk(source.epoch_of, B)
  walked = (first, *(batch_of(step) for step in range(stop)))  # every epoch draws its own pairs
  longest = max(int(lengths[pairs].sum(axis=1).max(initial=1)) for pairs in walked)
  width = reward_model.columns(longest, mesh)
  options = preference_losses.DpoOptions(recipe['beta'])
  train = train_step.make_train_step(cfg, preference_losses.dpo, options, opt, mesh, how)
  score = train_step.make_score(cfg, mesh, how)
  state, meta, curve = stages.begin(setting, stage)
  if 'curve_rows' not in meta:  # nothing saved yet
    meta = meta | {'ledger': compute.add(meta['ledger'], source.ledger)}
  reference, rows_BxT = reference_of(setting, stage), sharding.batch(mesh)

  def learn(state, step: int):
    rows = pair_batch(
      source.sequences, source.starts, batch_of(step), width, recipe['length_normalised']
    )
    tokens, context = reward_model.counts(rows)
    read = sharding.spread(rows_BxT, {k: rows[k] for k in ('tokens', 'positions', 'segment_ids')})
    rows['reference_logp'] = processes.gather(score(reference, read, 1.0))
    rate = train_step.learning_rate(step, recipe['learning_rate'], recipe['warmup'], stop, stop)
    state, metrics = train(state, sharding.spread(rows_BxT, rows), rate, 1.0)
    spent = compute.add(
      compute.score(cfg, tokens, context, B, width),
      compute.train(cfg, tokens, context, B, width, how.remat, how.loss_chunk),
    )
    return state, {'learning_rate': rate, 'tokens': tokens, **metrics}, spent

  begun = state, meta, curve
  state, ledger, seconds = stages.train(setting, stage, begun, learn, stop, WATCHED)
  about = source.about | {'feedback': recipe['feedback'], 'pairs': len(first), 'steps': stop}
  if len(source.held_out):
    about['held_out'] = held_out_accuracy(setting, stage, source, state.params, reference, score)
  finish(setting, stage, about, stop, {'ledger': ledger, 'seconds': seconds()})


def reference_of(setting: stages.Setting, stage: stages.Stage) -> dict:
  """The parameters that a round begins with; adapters that are new to it add nothing yet."""
  cfg, opt = stages.model(stage.recipe), stages.optimizer(stage.recipe)
  params = stages.state_of(setting.workdir, stage.parent, setting.mesh).params
  fresh = stages.key(stage.recipe['seed'], 'adapters')
  return train_step.make_restart(cfg, opt, setting.mesh)(params, fresh).params


def check(recipe: dict) -> None:
  """BadInput for a round that cannot be."""
  feedback = recipe['feedback']
  if feedback not in FEEDBACK:
    raise BadInput(f'dpo: feedback is {feedback!r}: it must be one of {", ".join(FEEDBACK)}')
  for of, key in (('judge', 'grader'), ('scorer', 'scorer'), ('pairs', 'pairs')):
    if (feedback == of) != (recipe[key] is not None):
      raise BadInput(f'dpo: feedback is {feedback!r} and {key} is {recipe[key]!r}: set both')
  if (feedback == 'pairs') != (recipe['bank'] is None):
    raise BadInput(f'dpo: feedback is {feedback!r} and bank is {recipe["bank"]!r}: set one')


def held_out_accuracy(setting, stage, source: Source, params, reference, score) -> dict:
  """{pairs, accuracy: [value, standard error over prompts]}: how often the implied reward of the
  chosen response is the greater one, a tie counting half."""
  normalised, lengths = stage.recipe['length_normalised'], [len(s) for s in source.sequences]
  ways = setting.mesh.shape['data'] * setting.mesh.shape['fsdp'] * setting.how.microbatches
  B, pairs, right = -(-SCORED_ROWS // ways) * ways, source.held_out, []
  longest = int(np.array(lengths)[pairs].sum(axis=1).max())
  width = reward_model.columns(longest, setting.mesh)
  for at in range(0, len(pairs), B):
    part = pairs[at : at + B]
    padded = np.concatenate([part, np.repeat(part[-1:], B - len(part), axis=0)])
    rows = pair_batch(source.sequences, source.starts, padded, width, normalised)
    marks = rows['marks'][: len(part)].astype(np.float64)
    names = ('tokens', 'positions', 'segment_ids')
    rows = sharding.spread(sharding.batch(setting.mesh), {name: rows[name] for name in names})
    mine, its = (processes.gather(score(p, rows, 1.0))[: len(part)] for p in (params, reference))
    margin = (marks * (mine.astype(np.float64) - its)).sum(axis=1)
    right += np.where(margin > 0, 1.0, np.where(margin == 0, 0.5, 0.0)).tolist()
  by_prompt = pd.Series(right).groupby(source.clusters).mean().to_numpy()
  value, stderr = estimators.mean_and_stderr(by_prompt)
  return {'pairs': len(pairs), 'accuracy': [float(value), float(stderr)]}


def finish(setting, stage: stages.Stage, about: dict, steps: int, meta: dict) -> None:
  """Marks a round as finished. Its cell is charged for its samples and for what made its judge or
  its reward model, as far as its policy does not come of the same stages."""
  recipe = stage.recipe
  cell, path = stages.path_of(setting, stage)
  others = synthesize.charged(setting, stage, ('bank', 'scorer', 'grader'))
  path['pretrain'] = compute.add(path['pretrain'], others['pretrain'])
  path['rl'] = compute.add(path['rl'], meta['ledger'], others['sft'])
  cell |= dict(
    rl_algorithm=f'dpo {recipe["called"]}',
    rl_updates=cell.get('rl_updates', 0) + steps,
    rl_samples=cell.get('rl_samples', 0) + recipe['samples'],
    seconds=cell['seconds'] + meta['seconds'],
  )
  if 'held_out' in about:
    value, stderr = about['held_out']['accuracy']
    row = records.row(
      stage, cell, path, setting.environment, metric='pair_accuracy', value=value, stderr=stderr,
      problems=about['held_out']['pairs'],
    )  # fmt: skip
    records.write(setting.workdir, stage.id, [row])
  stages.finish(setting, stage, cell, path, meta | {'preferences': about})
