"""The stage of a model behind an API: its bank, and best-of-n by vote and by a judge.

Completions are kept as they come (`hosted/store.py`), so a run that was cut off, or met a cap, pays
for nothing twice. They are drawn sample by sample over all problems: what there is of a bank that
was cut off is a bank of fewer samples.

The bank has the columns of `scaling/bank.py`, without what no API gives (tokens, log-probs, FLOPs:
null), and besides: provider, model (as asked; `answered_by`: as the answer names it), input_tokens,
output_tokens, cached_tokens, money (at the prices of the recipe), latency (seconds), request_id,
finish (the provider's word). `length` is in the provider's output tokens.
"""

import itertools
import math
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from analysis import estimators, strategies
from scaling import compute, files, processes, records
from scaling.data import batches, pools
from scaling.errors import BadInput
from scaling.hosted import client, draw, prompts, store
from scaling.hosted.client import Ask, Endpoint
from scaling.rewards import judge as judging
from scaling.rewards.verifiers import verify_all
from scaling.stages import stage as stages

SAID_EVERY = 30.0  # seconds between lines of progress where there is no bar
USAGE = ('input_tokens', 'output_tokens', 'cached_tokens')


def ready(recipe: dict) -> None:
  """BadInput where a key or a package that the stage needs is missing."""
  for part in (recipe, recipe['judge'] or recipe):
    client.key_of(part['provider'])
    client.sdk_of(part['provider'])


def prices(part: dict) -> draw.Prices:
  """The prices of the model, or of the judge."""
  return draw.Prices(part['input_price'], part['output_price'], part['cached_price'])


def endpoint(part: dict) -> Endpoint:
  return Endpoint(part['provider'], part['model'], part['base_url'])


def folders(workdir, recipe: dict) -> tuple:
  """(where the completions are kept, where the judge's are or None)."""
  kept = ('seed', 'data', 'provider', 'model', 'base_url', 'temperature', 'max_tokens', 'system')
  task = pools.parse_task(recipe['data']['task']).name
  about = {name: recipe[name] for name in kept} | {'template': prompts.template(task)}
  about['data'] = recipe['data'] | {'test': None}  # more problems are drawn beside those there are
  of_model, judge = store.folder(workdir, **about), recipe['judge']
  if not judge:
    return of_model, None
  how = {name: judge[name] for name in ('method', *kept[2:-1])}
  template = judging.PAIR if judge['method'] == 'pairs' else judging.SCORE
  return of_model, store.folder(workdir, of=about, judge=how, judging=template)


def most(recipe: dict) -> tuple[int, float]:
  """(calls, money of their output): the most that a stage may ask for, its input not counted."""
  P, n, judge = recipe['problems'], recipe['n'], recipe['judge']
  calls, money = P * n, prices(recipe).money(0, P * n * recipe['max_tokens'])
  if judge:
    judged = P * (n * (n - 1) // 2 if judge['method'] == 'pairs' else n)
    calls, money = calls + judged, money + prices(judge).money(0, judged * judge['max_tokens'])
  return calls, money


def run(setting: stages.Setting, stage: stages.Stage) -> None:
  """Draws the completions that are missing, then the judge's; writes bank, outcomes and records."""
  recipe, seconds = stage.recipe, stages.stopwatch({'seconds': 0.0})
  folder, _ = stages.load_data(setting.workdir, recipe)
  problems = batches.problems(folder, 'test')[: recipe['problems']]
  limits = draw.Limits(**setting.calls)
  account = draw.Account()
  used = processes.once(lambda: _draw_all(setting, stage, problems, limits, account))
  if processes.first():
    bank = table(stage.id, recipe, problems, store.read(folders(setting.workdir, recipe)[0]))
    verdicts = _verdicts(setting.workdir, recipe, bank)
    outcomes, rows = measure(stage, bank, verdicts, setting.environment)
    where = stages.folder(setting.workdir, stage.id)
    files.write_table(where / 'outcomes.parquet', outcomes)
    records.write(setting.workdir, stage.id, rows)
  meta = {'ledger': {}, 'seconds': seconds(), 'account': used}
  stages.finish(setting, stage, _cell(recipe), _path(), meta)


def _draw_all(setting, stage, problems, limits, account) -> dict:
  """Draws what is missing, writes the bank of what there is, and returns what was used.

  BadInput where a cap or failures end it early; processes.Preempted where a signal does.
  """
  recipe, judge = stage.recipe, stage.recipe['judge']
  of_model, of_judge = folders(setting.workdir, recipe)
  for part, path in ((recipe, of_model), (judge, of_judge)):
    if path is not None:  # what earlier runs used counts
      tokens, money = _used(store.read(path).values(), prices(part))
      account.tokens, account.money = account.tokens + tokens, account.money + money
  by_id = {problem.id: problem for problem in problems}

  def drawn(part, path, keys, ask, words, share):
    asks = ((key, ask(key)) for key in keys)
    _draw(setting, stage, part, path, list(asks), limits, account, words, share)

  try:
    there = store.read(of_model)
    keys = [(p.id, s) for s in range(recipe['n']) for p in problems]
    first = 1.0 if not judge else 0.5
    drawn(
      recipe,
      of_model,
      [key for key in keys if key not in there],
      lambda key: Ask(
        prompts.prompt(by_id[key[0]].task, by_id[key[0]].prompt),
        recipe['system'],
        recipe['temperature'],
        recipe['max_tokens'],
      ),
      f'completions of {len(keys)}',
      (0.0, first),
    )
  finally:
    bank = table(stage.id, recipe, problems, store.read(of_model))
    path = stages.folder(setting.workdir, stage.id) / 'bank'
    path.mkdir(parents=True, exist_ok=True)
    if len(bank):
      files.write_table(path / 'shard-00000.parquet', bank)
  if judge:
    there = store.read(of_judge)
    todo = {key: text for key, text in to_judge(recipe, bank) if key not in there}
    drawn(
      judge,
      of_judge,
      todo,
      lambda key: Ask(todo[key], '', judge['temperature'], judge['max_tokens']),
      f'verdicts of {len(todo) + len(there)}',
      (first, 1.0),
    )
  every = [store.read(path) for path in (of_model, of_judge) if path]
  return {
    'completions': sum(map(len, every)),
    **{name: sum(row[name] for rows in every for row in rows.values()) for name in USAGE},
    'money': account.money,
    'retries': account.retries,  # those of the last run
    'waits': account.waits,
    'unanswered_tokens': account.lost_tokens,
  }


def _used(rows, price: draw.Prices) -> tuple[int, float]:
  """(tokens, money) of stored completions."""
  used = np.array([[row[name] for name in USAGE] for row in rows], np.int64).reshape(-1, 3)
  return int(used[:, :2].sum()), float(price.money(*used.T).sum())


def _draw(setting, stage, part, path, asks, limits, account, words, share) -> None:
  """One `draw.draw` into a store, with progress; what ended it early is raised."""
  if not asks:
    return
  writer = store.Writer(path)
  done, began, said = 0, time.monotonic(), time.monotonic()

  def keep(key, completion) -> None:
    nonlocal done, said
    writer.add(key, completion)
    done += 1
    now = time.monotonic()
    minutes, rest = divmod(round((now - began) / done * (len(asks) - done)), 60)
    line = f'{done} {words}, {account.said()}, {minutes}:{rest:02d} to go'
    setting.progress(share[0] + (share[1] - share[0]) * done / len(asks), line)
    if now - said > SAID_EVERY and not sys.stdout.isatty():
      said = now
      print(f'{stage.label}: {line}', flush=True)

  async def work() -> draw.Ended:
    async with client.connect(endpoint(part), limits.timeout) as call:
      return await draw.draw(asks, call, limits, prices(part), account, keep, told)

  told = processes.preempted if processes.count() == 1 else lambda: False
  try:
    ended = draw.run(work())
  finally:
    writer.close()
  if ended.told:
    raise processes.Preempted
  if done < len(asks):
    so_far = f'{done} of {len(asks)} {words.split()[0]} were drawn and are kept ({account.said()})'
    if ended.cap:
      raise BadInput(
        f'config.hosted.{ended.cap}={getattr(limits, ended.cap):g}: the next request could go '
        f'beyond it; {so_far}: raise it and run the same command to go on'
      )
    raise BadInput(
      f'{part["model"]}: {account.failures} requests failed at every try (the last: '
      f'{ended.failed}); {so_far}: run the same command to go on'
    )


def table(stage_id: str, recipe: dict, problems, completions: dict) -> pd.DataFrame:
  """The bank's rows of the completions that the recipe asks for, as far as there are any."""
  rows, price = [], prices(recipe)
  there = [
    [(s, row) for s in range(recipe['n']) if (row := completions.get((problem.id, s)))]
    for problem in problems
  ]
  said = [
    [prompts.tidy(problem.task, row['text']) if row['stopped'] else '' for _, row in found]
    for problem, found in zip(problems, there, strict=True)
  ]
  verdicts = verify_all(problems, said)
  for place, problem in enumerate(problems):
    for (sample, row), verdict in zip(there[place], verdicts[place], strict=True):
      stopped = row['stopped']
      rows.append(
        dict(
          stage=stage_id,
          problem=problem.id,
          place=place,
          prompt=problem.prompt,
          sample=sample,
          response=row['text'],
          tokens=None,
          logprobs=None,
          sampler_logprobs=None,
          length=row['output_tokens'],
          stopped=stopped,
          answer=verdict.answer,
          correct=verdict.correct,
          reward=np.float32(verdict.correct if verdict.status == 'ok' else np.nan),
          temperature=recipe['temperature'],
          prompt_tokens=row['input_tokens'],
          prefill_flops=math.nan,
          decode_flops=math.nan,
          provider=recipe['provider'],
          model=recipe['model'],
          answered_by=row['model'],
          finish=row['finish'],
          **{name: row[name] for name in USAGE},
          money=price.money(*(row[name] for name in USAGE)),
          latency=row['latency'],
          request_id=row['request_id'],
        )
      )
  return pd.DataFrame(rows)


def to_judge(recipe: dict, bank: pd.DataFrame) -> Iterator[tuple[tuple, str]]:
  """(key, what the judge is asked) for every response with an answer, or every two of a problem.

  One without an answer cannot be right, and is not paid for. Of two, the first in place alternates.
  """
  answered = bank[bank['answer'].notna()]
  for problem, group in answered.groupby('problem', sort=False):
    rows = list(zip(group['sample'], group['prompt'], group['response']))
    if recipe['judge']['method'] == 'score':
      for sample, prompt, response in rows:
        yield (problem, sample), judging.score_prompt(prompt, response)
      continue
    for (i, prompt, left), (j, _, right) in itertools.combinations(rows, 2):
      if (i + j) % 2:  # so that a judge that favours a place favours nobody
        i, left, j, right = j, right, i, left
      yield (problem, i, j), judging.pair_prompt(prompt, left, right)


class Verdicts(NamedTuple):
  """What a judge said of a bank of P problems and n samples."""

  values: np.ndarray  # scores [P, n], NaN where it failed; or wins [P, n, n], then 0.5
  asked: np.ndarray  # [P]: how often
  failed: np.ndarray  # [P]: answers of it that were no verdict
  costs: dict  # {prefill_tokens, decode_tokens, money: [P]} of one call, those not made counted 0


def _verdicts(workdir, recipe: dict, bank: pd.DataFrame) -> Verdicts | None:
  """The stored verdicts on a whole bank; None without a judge."""
  judge = recipe['judge']
  if not judge:
    return None
  kept, price = store.read(folders(workdir, recipe)[1]), prices(judge)
  P, n = bank['problem'].nunique(), recipe['n']
  place = {problem: p for p, problem in enumerate(bank['problem'].drop_duplicates())}
  pairs = judge['method'] == 'pairs'
  read = judging.read_pair if pairs else judging.read_score
  answered = bank['answer'].notna().to_numpy().reshape(P, n)
  if pairs:  # one without an answer loses to those with one
    values = 0.5 + 0.5 * (answered[:, :, None] * 1.0 - answered[:, None, :])
  else:
    values = np.full((P, n), np.nan)
  asked, failed, used = np.zeros(P), np.zeros(P), np.zeros((P, 3))
  for key, _ in to_judge(recipe, bank):
    row, p = kept[key], place[key[0]]
    verdict = read(row['text']) if row['stopped'] else None
    asked[p], failed[p] = asked[p] + 1, failed[p] + (verdict is None)
    used[p] += [row[name] for name in USAGE]
    if verdict is not None and pairs:
      values[p, key[1], key[2]], values[p, key[2], key[1]] = verdict, 1 - verdict
    elif verdict is not None:
      values[p, key[1]] = verdict
  whole = n * (n - 1) / 2 if pairs else n  # calls that a query of n could make
  costs = {
    'prefill_tokens': used[:, 0] / whole,
    'decode_tokens': used[:, 1] / whole,
    'money': price.money(*used.T) / whole,
  }
  return Verdicts(values, asked, failed, costs)


def _cell(recipe: dict) -> dict:
  return dict(
    seed=recipe['seed'],
    model=recipe['model'],
    params=None,
    params_non_embedding=None,
    pretrain_source='unknown',
    seconds=0.0,
  )


def _path() -> dict:
  return {kind: compute.empty() for kind in ('pretrain', 'sft', 'rl')}


def measure(stage, bank: pd.DataFrame, verdicts: Verdicts | None, environment: dict):
  """(outcomes, records) of a whole bank: oracle, majority and judge at k = 1, 2, 4, … n.

  A query at k is k calls of the model, each with its prompt, and the judge's calls on them. Model
  FLOPs of a hosted model are not known: NaN.
  """
  recipe, judge = stage.recipe, stage.recipe['judge']
  n = recipe['n']
  ks = [2**i for i in range(n.bit_length()) if 2**i <= n]
  pool = strategies.pool(bank)
  P = len(pool.problems)
  exact = np.zeros((P, len(ks)))
  values = {'oracle': (strategies.oracle(pool, ks), exact)}
  values['majority'] = (strategies.majority(pool, ks), exact)
  outcomes = strategies.pool_outcomes(pool, values, ks, stage.id)
  if judge:
    outcomes = pd.concat([outcomes, _judged(stage.id, pool, verdicts, judge, ks)])
  outcomes = outcomes.reset_index(drop=True)
  k = outcomes['k'].to_numpy(np.float64)
  mean = bank.groupby('problem')[['input_tokens', 'money']].mean().loc[outcomes['problem']]
  outcomes['prefill_tokens'] = k * mean['input_tokens'].to_numpy()
  outcomes['money'] = k * mean['money'].to_numpy()
  outcomes['scorer_flops'] = np.where(outcomes['scorer'] == '', 0.0, math.nan)
  if judge:
    by_judge = (outcomes['scorer'] != '').to_numpy()
    calls = k * (k - 1) / 2 if judge['method'] == 'pairs' else k
    index = pd.Index(pool.problems).get_indexer(outcomes['problem'])
    for name, cost in verdicts.costs.items():
      outcomes[name] += np.where(by_judge, calls * cost[index], 0.0)

  unknown = [f'{name}_flops' for name in ('pretrain', 'sft', 'rl', 'executed')]
  unknown += [f'flops_{kind}' for kind in compute.KINDS]
  unknown += ['params', 'params_non_embedding']

  def record(metric, value, stderr, **more):
    return records.row(
      stage, _cell(recipe), _path(), environment,
      **dict.fromkeys(unknown, math.nan),
      **dict(
        metric=metric, value=float(value), stderr=float(stderr), problems=P, samples=n,
        bank=stage.id, temperature=recipe['temperature'],
      )
      | more,
    )  # fmt: skip

  spent = ('prefill_tokens', 'decode_tokens', 'money')
  spent_at = outcomes.groupby(['strategy', 'scorer', 'k'])[list(spent)].mean()
  rows = []
  for found in strategies.summary(outcomes):
    used = spent_at.loc[(found['strategy'], found['scorer'], found['k'])]
    used = {f'query_{name}': float(used[name]) for name in spent}
    rows.append(record('accuracy', found.pop('value'), found.pop('stderr'), **found | used))
  means = lambda values: values.groupby(bank['problem'], sort=False).mean()
  looks = {
    'parse_rate': means(bank['answer'].notna()),
    'truncation_rate': means(~bank['stopped']),
    'response_length': means(bank['length']),
  }
  for metric, per_problem in looks.items():
    rows.append(record(metric, *estimators.mean_and_stderr(per_problem.to_numpy(np.float64))))
  if judge and verdicts.asked.sum():
    rate = verdicts.failed.sum() / verdicts.asked.sum()
    rows.append(record('judge_failure_rate', rate, math.nan, scorer=judge['model']))
  return outcomes, rows


def _judged(stage_id: str, pool, verdicts: Verdicts, judge: dict, ks) -> pd.DataFrame:
  """Outcomes of best-of-k by the judge, without their cost."""
  if judge['method'] == 'pairs':
    value = [
      [judging.best_of_pairs(wins, gold, k) for k in ks]
      for wins, gold in zip(verdicts.values, pool.correct)
    ]
  else:
    value = strategies.best_of(pool, judging.ranks(verdicts.values), ks)
  value = np.asarray(value, np.float64)
  values = {'judge': (value, np.zeros_like(value))}
  return strategies.pool_outcomes(pool, values, ks, stage_id, judge['model'])
