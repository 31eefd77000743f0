"""Models of finished stages, put to use: as a teacher (`rewards.teacher`), as a judge
(`rewards.model_judge`), and either a judge or a reward model as the feedback of RL:

    feedback(problems, texts, sequences, prompt_lengths) -> (rewards float64 [P, G], ledger)

problems: P; texts: P lists of G responses; sequences: P lists of G lists of ids, prompt and
response; prompt_lengths: int [P]. Rewards are in [0, 1], NaN where a judge in words said no score.
"""

from collections.abc import Callable

import numpy as np

from scaling import compute, files
from scaling.errors import BadInput
from scaling.rewards import model_judge, reward_model, teacher
from scaling.search import generate, outcome
from scaling.stages import preference
from scaling.stages import stage as stages


def _recipe(setting: stages.Setting, stage_id: str, word: str) -> dict:
  """The recipe of a finished stage. BadInput where there is none."""
  path = stages.folder(setting.workdir, stage_id) / 'stage.json'
  if not path.exists() or stages.done(setting.workdir, stage_id) is None:
    raise BadInput(f'{path.parent}: not a finished stage; a {word} is a stage of training')
  return files.read_json(path)['recipe']


def load_teacher(
  setting: stages.Setting, stage_id: str, recipe: dict, temperature: float = 1.0
) -> teacher.Teacher:
  """The teacher that a finished stage of training left, for a student of `recipe`.

  BadInput where the stage is not there, or was trained with another vocabulary or form of prompt.
  """
  its = _recipe(setting, stage_id, 'teacher')
  for key in ('vocab', 'style'):
    if its['data'][key] != recipe['data'][key]:
      raise BadInput(
        f'teacher {stage_id}: trained with data.{key}={its["data"][key]!r}, and the student with '
        f'{recipe["data"][key]!r}: their tokens must be the same'
      )
  cfg, student = stages.model(its), stages.model(recipe)
  if (cfg.vocab_size, cfg.head) != (student.vocab_size, student.head):
    raise BadInput(
      f'teacher {stage_id}: {cfg.vocab_size} tokens and a head of {cfg.head}, and the student '
      f'{student.vocab_size} and {student.head}: they must be the same'
    )
  own = stages.state_of(setting.workdir, stage_id, setting.mesh).params
  how = stages.mechanics(setting.how, its, setting.mesh)
  return teacher.of_params(cfg, own, setting.mesh, how, temperature)


def judge_tools(setting: stages.Setting, stage_id: str, data, most: int) -> outcome.Tools:
  """A finished stage of training as a judge that writes `most` tokens at the most."""
  recipe = _recipe(setting, stage_id, 'judge')
  cfg, row_tokens = stages.model(recipe), recipe['data']['row_tokens']
  generator = stages.generator(setting, stage_id, recipe, 'judge', 1.0, most)
  return outcome.Tools(cfg, data.vocab, data.spec['style'], generator, most, row_tokens)


def judging(setting: stages.Setting, stage_id: str, data, judge_by: str, most: int) -> Callable:
  """Feedback by a finished stage's verdicts or words (see config.dpo.judge_by)."""
  tools = judge_tools(setting, stage_id, data, most)

  def feedback(problems, texts, sequences, prompt_lengths):
    del sequences, prompt_lengths
    prompts = [
      problem.prompt for problem, group in zip(problems, texts, strict=True) for _ in group
    ]
    flat = [text for group in texts for text in group]
    values, ledger = model_judge.grades(tools, judge_by, prompts, flat)
    return values.reshape(len(problems), -1), ledger

  return feedback


def rewarding(setting: stages.Setting, scorer: str, rows: int = preference.SCORED_ROWS) -> Callable:
  """Feedback by a finished reward model: the probability of being right at a response's end.

  Of a process reward model it is that of the last step.
  """
  cfg, params, how, calibration, _, _ = preference.load_scorer(setting, scorer)

  def feedback(problems, texts, sequences, prompt_lengths):
    del texts, prompt_lengths
    flat = [np.asarray(sequence, np.int32) for group in sequences for sequence in group]
    places = [np.array([len(sequence) - 1]) for sequence in flat]
    values, ledger = reward_model.values(
      cfg, params, flat, places, setting.mesh, how, rows, width=generate.width
    )
    ledger = compute.add(ledger, preference.model_cost(cfg, flat, places))
    return calibration(np.concatenate(values)).reshape(len(problems), -1), ledger

  return feedback
