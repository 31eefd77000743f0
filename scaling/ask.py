"""One question to one model: its samples, how they vote, and what reward models say of them.

python run.py --config=experiments/quickstart.py --workdir=results/quickstart --ask="12+34-5="
"""

from pathlib import Path

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from scaling import processes, sample_step, sharding, stops, study
from scaling.data import batches
from scaling.errors import BadInput
from scaling.model.transformer import Mechanics
from scaling.rewards import reward_model, verifiers
from scaling.stages import preference, stage
from scaling.truncation import Truncation

SHOWN = 8  # samples and answers that are printed


def _model(tree: list[stage.Stage], workdir: Path) -> stage.Stage:
  """The last stage, in the order in which the study runs, whose model is trained and has a bank;
  before there is one, the last pretrained model. RL runs last, so it is seldom the largest."""
  kinds = ('pretrain', 'sft', 'rl', 'dpo')
  done = [s for s in tree if s.kind in kinds and stage.done(workdir, s.id) is not None]
  done = [s for s in done if stage.done(workdir, s.id)['outcome'] == 'ok']
  if not done:
    raise BadInput(
      f'--ask: no model of this study is trained in {workdir}; run the same command without --ask'
    )
  measured = {s.parent for s in tree if s.kind == 'sample'}
  return [s for s in done if s.id in measured or s.kind == 'pretrain'][-1]


def _drawn(c: ConfigDict, workdir: Path, chosen: stage.Stage, problem, data, mesh) -> pd.DataFrame:
  """A row a sample: response, tokens, answer, mean log-probability, stopped."""
  recipe = c.sample
  width = -(-max(len(data.vocab.prompt(problem.prompt)), 1) // 8) * 8
  n = min(recipe.n, recipe.block_samples)
  shape = sample_step.SampleShape(1, n, n, width, recipe.response_tokens)
  cfg = stage.model(chosen.recipe)
  how = stage.mechanics(Mechanics(**c.mechanics), chosen.recipe, mesh)
  truncation = Truncation(recipe.top_k, recipe.top_p, recipe.min_p)
  draw = sample_step.make_sampler(cfg, shape, mesh, how, truncation)
  prompts = batches.encode_prompts([problem], data.vocab, width)
  ends = stops.table(data.vocab, [data.vocab.stop], list(recipe.stop))
  key = stage.key(chosen.recipe['seed'], 'evaluation')
  params = stage.state_of(workdir, chosen.id, mesh).params
  limits = sample_step.no_limits(shape)
  drawn = processes.gather(draw(params, *prompts, key, 0, 0, recipe.temperature, ends, limits))
  rows = []
  for i, length in enumerate(drawn.lengths[0]):
    tokens, stopped = drawn.tokens[0, i, :length], bool(drawn.stopped[0, i])
    response = data.vocab.decode(tokens)
    answer = verifiers.answer_of(problem, response) if stopped else None
    logprob = float(drawn.logprobs[0, i, :length].mean())
    rows.append((response, tokens, answer, logprob, stopped))
  return pd.DataFrame(rows, columns=['response', 'tokens', 'answer', 'logprob', 'stopped'])


def ask(c: ConfigDict, workdir: str, text: str) -> str:
  """What the study's last trained model says to a prompt: samples, votes and scores, as text.

  BadInput where nothing is trained yet, or the prompt has a character the vocabulary lacks.
  """
  workdir = Path(workdir)
  tree = study.expand(c)
  chosen = _model(tree, workdir)
  _, data = stage.load_data(workdir, chosen.recipe)
  prompt = text if c.data.style == 'short' else text.rstrip('\n') + '\n'
  unknown = data.vocab.missing(prompt)
  if unknown is not None or not prompt:
    raise BadInput(
      f'--ask: the character {unknown!r} is not in the vocabulary {data.vocab.name!r}'
      if prompt
      else '--ask is empty: give a prompt'
    )
  task = c.data.task.partition('(')[0].strip()
  problem = batches.Problem('--ask', task, prompt, '', '', {})
  mesh = sharding.make_mesh(devices=jax.devices()[:1])
  table = _drawn(c, workdir, chosen, problem, data, mesh)
  asked = data.vocab.prompt(prompt)
  whole = [[*asked, *tokens] for tokens in table['tokens']]
  setting = stage.Setting(workdir, mesh, Mechanics(**c.mechanics), 0.0, {}, lambda *_: None, {})
  names = []
  for name, scorer in _scorers(tree, workdir, chosen).items():
    cfg, params, how, calibration, *_ = preference.load_scorer(setting, scorer)
    ends = [[len(tokens) - 1] for tokens in whole]
    found, _ = reward_model.values(cfg, params, whole, ends, mesh, how)
    table[name] = [float(calibration(value)[-1]) for value in found]
    names.append(name)
  return _describe(chosen, c, prompt, table, names)


def _scorers(tree: list[stage.Stage], workdir: Path, policy: stage.Stage) -> dict[str, str]:
  """'OBJECTIVE SIZE' -> id of the reward models that learned from the policy's samples."""
  by_id = {s.id: s for s in tree}
  return {
    f'{s.recipe["objective"]} {s.recipe["preset"]}': s.id
    for s in tree
    if s.kind == 'preference'
    and s.recipe['bank'] is not None  # else it learned from a file
    and by_id[s.recipe['bank']].parent == policy.id
    and stage.done(workdir, s.id) is not None
  }


def _describe(chosen, c, prompt, table, names) -> str:
  marks = ''.join(f'{name:>14}' for name in names)
  lines = [
    f'the last model that the study trained, {chosen.label} [{chosen.id}]: '
    f'{len(table)} samples at temperature {c.sample.temperature:g}',
    f'prompt: {prompt!r}',
    '',
    f'{"votes":>6}{"log-prob":>10}{marks}  answer',
  ]
  answered = table.dropna(subset=['answer'])
  votes = answered.groupby('answer').agg(
    votes=('response', 'size'), logprob=('logprob', 'mean'), **{n: (n, 'mean') for n in names}
  )
  votes = votes.sort_values(['votes', 'logprob'], ascending=False)
  for answer, row in votes.head(SHOWN).iterrows():
    scores = ''.join(f'{row[name]:14.3f}' for name in names)
    lines.append(f'{int(row["votes"]):6}{row["logprob"]:10.3f}{scores}  {answer}')
  others = len(votes) - SHOWN
  lines += [f'{"":>16}  and {others} other answers'] if others > 0 else []
  silent, cut = int(table['answer'].isna().sum()), int((~table['stopped']).sum())
  lines += [f'{silent:6}{"":10}{"":{14 * len(names)}}  no answer, {cut} of them cut off', '']
  best = table.sort_values('logprob', ascending=False)
  lines.append(f'{"":>6}{"log-prob":>10}{marks}  sample, the likeliest of {len(table)} first')
  for i, row in best.head(SHOWN).iterrows():
    scores = ''.join(f'{row[name]:14.3f}' for name in names)
    lines.append(f'{i:6}{row["logprob"]:10.3f}{scores}  {row["response"]!r}')
  if np.ptp(table['logprob']) == 0 and len(table) > 1:
    lines.append('all samples are as likely: the model says the same each time')
  return '\n'.join(lines)
