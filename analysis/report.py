"""Writes report-NAME.html of a study: one page that needs nothing else, readable on a phone.

python -m analysis.report WORKDIR [--study=NAME] [--queries=1e5] [--figures=DIR]
"""

import html
import os
import re
import sys
from pathlib import Path

import pandas as pd

from analysis import (
  command,
  findings,
  frontier,
  frontier_command,
  hosted,
  plan_words,
  planning,
  plots,
  report_tables,
  self_training_words,
  sft,
  tables,
)
from analysis.interpret import Reading, interpret
from analysis.joint import TERMS_RULE
from analysis.style import flops, human, text

DEFINITIONS = {
  'cell': 'one checkpoint that was measured: a seed, a model size, SFT tokens and RL updates.',
  'trunk, branch': 'SFT runs once at a constant learning rate, the trunk; for each budget of '
  'tokens a branch leaves it, lowers the rate to 0 and is measured.',
  'bank': 'the samples of one model on a set of problems, one row each, with their verdicts; all '
  'estimates at all k are of the same samples.',
  'verdict, gold': 'right or wrong, by the verifier of the task. Gold: that verdict, beside what a '
  'reward model says; a gold response is the one that the data have.',
  'split': 'one way to spend a budget: model size, SFT tokens, RL updates, and k samples a query.',
  'SFT tokens': 'of a cell: those read, without padding. A stage is named by its budget, which '
  'counts all positions of the packed rows and is a few per cent larger.',
  'held-out loss': 'mean negative log-likelihood of the gold response, in nats per response token, '
  'on problems no training stage has seen.',
  'pass@k': 'the chance that k samples of a problem hold a correct one, the mean over problems: '
  '1 − C(n−c, k) / C(n, k) from c correct of n drawn. An oracle picks: an upper bound.',
  'majority@k': 'the chance that a plurality vote of k samples is right, exact over all subsets of '
  'the n drawn, ties shared; samples without an answer abstain. Deployable.',
  '95 %': 'intervals are over problems, resampled, and over seeds where there are several: by '
  'Student’s t, so they are wide for two seeds (t = 12.7) and three (4.3). One seed alone says '
  'nothing of the run-to-run spread. The intervals of a law resample what it was fitted to, hold '
  'no error of its form, and are too narrow where they rest on fewer than five seeds or trunks.',
  'common random numbers': 'all cells of a seed answer the same problems, and draw sample i of a '
  'problem with the same random numbers. So the evaluation noise of two cells is correlated, '
  'beyond the trunk and the bank they may share: their difference is better known than two '
  'separate intervals say. Differences and joint laws therefore resample a problem in all cells '
  'at once.',
  'strategy': 'how k samples make one answer. A vote weighs each by its score (weighted) or all '
  'equally (majority); best of takes the sample of the highest score; prm puts the scores of the '
  'steps of a response together by their last, least, product or mean. Values are exact over all '
  'subsets of k, but for weighted votes at larger k, which are Monte Carlo.',
  'compute-optimal': 'a strategy and k for each bin of difficulty. Difficulty is estimated from '
  'one half of the samples of each problem, values from the other; strategies are chosen on half '
  'of the problems and scored on the rest. With one set for both it would look better than it is.',
  'self-training': 'a policy fine-tuned on examples that were made of samples. Round 0 is the SFT '
  'branch beside it; FLOPs count the samples, and what trained who drew them. Entropy: mean −log p '
  'of the tokens drawn. distinct-4: the part of the 4-grams of a problem’s samples that are '
  'distinct.',
  'model FLOPs': 'what the mathematics needs, with attention at real lengths; the x-axis. '
  'Executed FLOPs: what the program did, with padding and recomputation.',
  'parameters': 'are counted without embeddings, unless said otherwise.',
  'pretraining sunk, counted': 'whether the total of a split leaves pretraining out or holds it.',
  'chosen on half': 'the best of many noisy numbers looks better than it is. A split is therefore '
  'chosen on one half of the problems and scored on the other half, over many halvings.',
  'not identified': 'the 95 % interval of a parameter reaches its bound or spans a factor above '
  '1000: these data do not determine it.',
}
SMOKE = (
  'This is a smoke variant: every kind of stage, as small as it runs. Its numbers mean nothing.'
)
SCORERS = (
  'AUC: the chance that a right response has a higher score than a wrong one; within problems: of '
  'the same problem, which is what re-ranking needs. Calibration error: how far the share of right '
  'responses is from the score, on average over bins. ±: 95 %, over problems.'
)
SFT = (
  'Each law is fitted to the cells below a cut and errs by so much (root mean square) on those '
  'beyond it: at the most tokens, of the largest size, or both. 95 %: trunks resampled, of the '
  f'cells fitted and of those left out, where there are at least {sft.TRUNKS}. A law of a size '
  'each has parameters for every size. Nearest cell: of the fitted ones, in log inputs; of several '
  'as near, as seeds are, the mean.'
)
COVERAGE = (
  'α, β: of all samples; 95 %: the interval that they give the measured pass at the largest k, K. '
  'a, b: least squares on k up to K/4. The last three columns say what k up to K/4 tell of pass@K: '
  'by a, b; by a beta-binomial of the bank thinned to K/4 samples a problem; naive, pass at K/4.'
)
PLAN = (
  'N: parameters; D: SFT tokens; C: FLOPs of RL; k: samples a query. Brackets: 95 %, of N, D, C '
  'and k over the splits that bootstrap samples of the law would choose, of majority@k over what '
  'they predict of the split shown; neither holds an error of the form of the law.'
)
BASES = ' P: tokens of pretraining, which cost nothing here: the best within those measured.'
CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1f2933;
  font: 16px/1.55 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; }
main { max-width: 900px; margin: 0 auto; padding: 28px 20px 60px; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 4px; }
h2, h3, figure { scroll-margin-top: 12px; }
h2 { font-size: 1.2rem; margin: 42px 0 10px; padding-top: 14px; border-top: 1px solid #d9dee4; }
h3 { font-size: 1rem; margin: 26px 0 6px; }
p, li { max-width: 74ch; }
.note { background: #fff4d6; border-left: 4px solid #d9a300; padding: 8px 12px; }
.quiet { color: #6b7785; font-size: .9rem; overflow-wrap: anywhere; } .quiet a { color: inherit; }
ol.findings { padding-left: 1.3em; } ol.findings li { margin: 0 0 10px; }
figure { margin: 12px 0 34px; }
.wide { overflow-x: auto; -webkit-overflow-scrolling: touch; }
.wide + .wide { margin-top: 16px; }
figure img { display: block; width: 100%; height: auto; }
figcaption { font-size: .93rem; max-width: 74ch; margin-top: 6px; white-space: pre-line; }
table { border-collapse: collapse; font-size: .86rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: 4px 12px 4px 0; border-bottom: 1px solid #e7ebef;
  vertical-align: top; white-space: nowrap; }
th { font-weight: 600; color: #52606d; white-space: normal; vertical-align: bottom; }
pre { font-size: .8rem; line-height: 1.45; background: #f5f7f9; padding: 12px 14px;
  overflow-x: auto; border-radius: 6px; }
dt { font-weight: 600; margin-top: 8px; } dd { margin: 0; max-width: 74ch; }
nav { font-size: .85rem; line-height: 1.35; margin: 18px 0; columns: 2; }
nav a { display: block; padding: 3px 0; color: #52606d; text-decoration: none; }
nav a:hover { color: #0072b2; } nav a.figure { color: #6b7785; padding-left: 1em; }
@media (min-width: 1180px) {
  main { margin-left: max(230px, 50% - 450px); }
  nav { position: fixed; top: 30px; width: 200px; columns: 1; margin: 0;
    left: max(20px, 50% - 660px); max-height: 92vh; overflow-y: auto; } }
@media (max-width: 600px) { main { padding: 18px 14px 40px; } h1 { font-size: 1.4rem; } }
"""


def write(workdir, study: str | None = None, queries: float | None = None, figures=None):
  """Writes WORKDIR/report-NAME.html of a study, the newest if none is named: (path, findings).

  queries: how many the frontier counts the inference of; by default so many that one sample each
  costs what the median split's training cost. figures: a folder for each figure as a PNG file too.
  BadInput where there is nothing to read.
  """
  reading = interpret(tables.read(workdir, study))
  if figures is not None:
    Path(figures).mkdir(parents=True, exist_ok=True)
    for drawing in plots.all_figures(reading, queries):
      drawing.figure.savefig(Path(figures) / f'{drawing.name}.png', dpi=110)
  page, said = render(reading, queries)
  path = Path(workdir) / f'report-{reading.study.name}.html'
  scratch = path.with_name(f'.{path.name}.{os.getpid()}.partial')
  try:
    scratch.write_text(page)
    os.replace(scratch, path)
  finally:
    scratch.unlink(missing_ok=True)
  return path, said


def closing(path, said: list[str], most: int = 3) -> str:
  """What is printed of a report: its first findings, how many more it has, and its path."""
  left = f' (all {len(said)} findings)' if len(said) > most else ''
  return '\n'.join([*(f'- {finding}' for finding in said[:most]), '', f'The report: {path}{left}'])


def render(reading: Reading, queries: float | None = None) -> tuple[str, list[str]]:
  """(the page, its main findings)."""
  study = reading.study
  said = findings.main(reading, queries)
  ended = sum(stage['id'] in study.outcomes for stage in study.plan['stages'])
  total = len(study.plan['stages'])
  whole = f'{ended} of {total} stages have ended'
  whole += '.' if ended == total else ': an interrupted study, reported as far as it went.'
  seeds = ', '.join(str(s) for s in sorted(study.records['seed'].unique()))
  drawings = plots.all_figures(reading, queries)
  body = [f'<p class="note">{SMOKE}</p>'] if _is_smoke(study) else []
  body += [_list(said) if said else '<p>No finding yet: the study has measured too little.</p>']
  if reading.missing:
    body.append('<p class="quiet">Laws that need more data:</p>')
    body.append(_list(reading.missing, 'ul', 'quiet'))
  sections = {'Main findings': body}
  sections['Figures'] = [drawing._repr_html_() for drawing in drawings]
  if hosted.is_hosted(study):
    sections['Strategies'] = [_table(hosted.table(study))]
  else:
    sections['Laws'] = _laws(reading)
    if reading.majority is not None:
      sections['Frontier by the law'] = _frontier(reading, queries)
  if reading.sft_laws is not None:
    lines = [f'<p class="quiet">{SFT}</p>', _list(sft.words(reading.sft_laws), 'ul')]
    sections['SFT laws'] = [*lines, _table(sft.shown(reading.sft_laws))]
  if reading.taught is not None:
    found = reading.taught
    sections['Self-training'] = [
      _list(self_training_words.words(found), 'ul'),
      _table(self_training_words.shown(found.watch, found.K)),
    ]
  if not reading.scorers.empty:
    sections['Scorers'] = [
      f'<p class="quiet">{SCORERS}</p>',
      _table(report_tables.scorers(reading)),
    ]
  sections['Stages'] = [f'<div class="wide"><pre>{html.escape(tree(study))}</pre></div>']
  if hosted.is_hosted(study):
    account = pd.DataFrame(hosted.account(study).items(), columns=['', 'total'])
    account = account.assign(total=[f'{v:,.6g}' for v in account['total']])
    sections['Account'] = [_table(account)]
  else:
    sections['Ledger'] = [_table(report_tables.ledger(study))]
  sections['Environment'] = [_table(report_tables.environment(study), header=False)]
  sections['Commands'] = [f'<div class="wide"><pre>{html.escape(_commands(study))}</pre></div>']
  terms = ''.join(f'<dt>{term}</dt><dd>{text}</dd>' for term, text in DEFINITIONS.items())
  sections['Definitions'] = [f'<dl>{terms}</dl>']
  head = f'<h1>Post-training scaling: {html.escape(study.name)}</h1>'
  task = (study.plan.get('config') or {}).get('data', {}).get('task', '')
  asked = f'Task: {html.escape(task)}. ' if task else ''
  words = '<a href="#definitions">What the words mean</a>'
  head += f'<p class="quiet">{asked}Seed {seeds}. {whole} {words}.</p>'
  body = [head, _index(sections, drawings)]
  for title, parts in sections.items():
    body += [f'<h2 id="{_anchor(title)}">{title}</h2>', *parts]
  page = (
    '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
    '<meta name="viewport" content="width=device-width, initial-scale=1">'
    f'<title>{html.escape(study.name)}: post-training scaling</title><style>{CSS}</style></head>'
    f'<body><main>{"".join(body)}</main></body></html>\n'
  )
  return page, said


def _is_smoke(study: tables.Study) -> bool:
  """Whether a study is the smoke variant of an experiment, by its name or its command."""
  command = str(study.plan.get('command', ''))
  return study.name.endswith('_smoke') or re.search(r'\.py[:,\w/]*\bsmoke\b', command) is not None


def _anchor(title):
  return title.lower().replace(' ', '-')


def _index(sections, drawings) -> str:
  """Links to the sections and figures: beside a wide page, above a narrow one."""
  lines = []
  for title in sections:
    lines.append(f'<a href="#{_anchor(title)}">{title}</a>')
    if title == 'Figures':
      lines += [f'<a class="figure" href="#{d.name}">{text(d.title)}</a>' for d in drawings]
  return f'<nav>{"".join(lines)}</nav>'


def _commands(study) -> str:
  """What makes the study, its report, its frontier and its tables."""
  folder = study.plan.get('workdir') or study.workdir
  return '\n'.join(
    [
      str(study.plan.get('command', '')),
      f'python -m analysis.report {folder} --study={study.name}',
      f'python -m analysis.frontier {folder} --study={study.name} --out=frontier.png',
    ]
  )


def tree(study: tables.Study) -> str:
  """The stages as an indented tree: label, id, FLOPs and how each ended."""
  stages = {stage['id']: stage for stage in study.plan['stages']}
  lines = []
  work = study.ledger.groupby('stage')['model'].sum()

  def visit(stage, depth):
    sid = stage['id']
    done = study.outcomes.get(sid)
    outcome = 'not ended' if done is None else done.get('outcome', 'ok')
    spent = flops(work[sid]) if sid in work else ''
    name = '  ' * depth + str(stage.get('label') or stage['kind'])
    lines.append(f'{name:<58} {sid:<20} {spent:>10}  {"" if outcome == "ok" else outcome}'.rstrip())
    for child in study.plan['stages']:
      if child.get('parent') == sid:
        visit(child, depth if child['kind'] == stage['kind'] else depth + 1)

  for stage in study.plan['stages']:
    if stage.get('parent') not in stages:
      visit(stage, 0)
  return '\n'.join(lines)


def _laws(reading: Reading) -> list[str]:
  """Each law's formula, parameters and errors."""
  parts = []
  law = reading.loss_fit
  if law is not None:
    form = 'L(N, D) = E + A/N^α + B/D^β' if law.law == 'chinchilla' else 'L(D) = E + A/D^α'
    parts += [
      f'<h3>Held-out loss: {form}</h3>',
      f'<p class="quiet">{law.rows} points; {_error_words(law, "of log loss")} '
      f'{" ".join(findings.trunks(reading))}</p>',
      _table(report_tables.parameters(law.params, law.intervals, law.unidentified)),
    ]
  for key, law in reading.rl_fits.items():
    form = 'R = R₀ + (A − R₀)/(1 + (C_mid/C)^B), R₀ the parent’s' if law.law == 'sigmoid' else ''
    form = form or 'R = a + b log C (a sigmoid is not identified by these points)'
    parts += [
      f'<h3>RL from {key[0]} after {human(key[2])} SFT tokens: {form}</h3>',
      f'<p class="quiet">{law.rows} points of one run, which share their history: the intervals '
      f'are too narrow; {_error_words(law, "of pass@1")}</p>',
      _table(report_tables.parameters(law.params, law.intervals, law.unidentified)),
    ]
  if not reading.coverage.empty:
    parts += [
      '<h3>Coverage: −log pass@k = a k^−b, and Beta(α, β) over problems</h3>',
      f'<p class="quiet">{COVERAGE}</p>',
      _table(report_tables.coverage(reading.coverage)),
    ]
  for name, law in (('pass@k (beta-binomial)', reading.joint), ('majority@k', reading.majority)):
    if law is not None:
      params = law.mean | {f'dispersion {term}': v for term, v in law.dispersion.items()}
      pretrained = ', log(1 + P/P₀)' if 'P' in law.mean else ''
      parts += [
        f'<h3>Joint law of {name}: logit-linear in log N, log D, log(1 + C/C₀){pretrained}</h3>',
        f'<p class="quiet">{TERMS_RULE} Fitted to {law.cells} cells; standardised '
        f'coefficients; misfit {100 * law.misfit:.1f} points (root mean square over cells).</p>',
        _table(report_tables.parameters(params, law.intervals, {})),
      ]
  for name, corner in (
    ('pass@k', reading.heldout),
    ('majority@k', reading.heldout_majority),
  ):
    if corner is None:
      continue
    rows = pd.DataFrame(
      {
        'law': [findings.METHODS[m] for m in corner.error],
        'mean absolute error, points': [f'{100 * e:.1f}' for e in corner.error.values()],
        'of the logit': [f'{corner.logit_error[m]:.2f}' for m in corner.error],
      }
    )
    if corner.loglik_per_sample:
      nats = corner.loglik_per_sample
      rows['nats a held-out sample'] = [f'{nats[m]:.3f}' if m in nats else '' for m in corner.error]
    about = html.escape(f'{corner.rule}. Terms that entered: {", ".join(corner.terms)}.')
    title = f'<h3>Joint law of {name}, held out</h3>'
    parts += [title, f'<p class="quiet">{about}</p>', _table(rows)]
    parts.append(_table(report_tables.by_k(corner)))
  return parts or ['<p>No law could be fitted to these data.</p>']


def _frontier(reading: Reading, queries) -> list[str]:
  """The law's choice for each budget, within what was measured and beyond; its exchange rates."""
  queries = frontier.default_queries(reading.quality) if queries is None else queries
  spread = frontier.default_budgets(frontier.measured(reading.deployable, queries).table)
  problem = frontier.problem(reading.majority, reading.quality, queries)
  parts, at = [], None
  for inside in (True, False):
    where = f'up to {problem.reach:g} times beyond what was measured'
    where = 'within the measured ranges' if inside else where
    budgets = [b for b in spread if b >= planning.cheapest(problem, inside)]
    choices = [planning.for_budget(problem, budget, inside) for budget in budgets]
    if not choices:
      continue
    at = at or choices[len(choices) // 2].split
    table = plan_words.split_table(problem, [flops(b) for b in budgets], choices)
    parts += [f'<h3>The best split by the law of majority@k, {where}</h3>', _table(table)]
  bases = BASES if 'P' in plan_words.varied(problem) else ''
  parts.append(f'<p class="quiet">{PLAN}{bases} {human(queries)} queries, pretraining sunk.</p>')
  rates = plan_words.exchanges(problem, at) if at else []
  if rates:
    split = ', '.join(f'{x} = {human(v)}' for x, v in at.items() if v)
    parts.append(f'<h3>Exchange rates at {split}</h3>')
    parts.append(_list([plan_words.exchange_words(rate) for rate in rates], 'ul'))
  return parts


def _error_words(law, unit):
  if law.holdout_error is None:
    return 'nothing held out.'
  return (
    f'held-out error {law.holdout_error:.3f} (RMSE {unit}), '
    f'naive baseline {law.baseline_error:.3f} (nearest fitted point).'
  )


def _table(frame, header=True) -> str:
  cell = lambda tag, value: f'<{tag}>{text(value)}</{tag}>'
  head = '<tr>' + ''.join(cell('th', c) for c in frame.columns) + '</tr>' if header else ''
  rows = [''.join(cell('td', v) for v in row) for row in frame.itertuples(index=False)]
  body = ''.join(f'<tr>{row}</tr>' for row in rows)
  return f'<div class="wide"><table>{head}{body}</table></div>'


def _led(line: str) -> str:
  """A line with what it is about, up to an early colon, in bold."""
  about, colon, rest = line.partition(': ')
  return f'<b>{about}:</b> {rest}' if colon and len(about) < 90 else line


def _list(lines, tag='ol', kind='findings') -> str:
  items = ''.join(f'<li>{_led(text(line))}</li>' for line in lines)
  return f'<{tag} class="{kind}">{items}</{tag}>'


def main(argv=None) -> int:
  """0; or 2, with one line on stderr, for bad input."""
  its = command.parser('report', __doc__)
  its.add_argument('workdir', help='where the study ran: its --workdir')
  its.add_argument('--study', help='its name; the newest of the workdir if left out')
  its.add_argument('--queries', help='served, that the frontier counts')
  its.add_argument('--figures', help='a folder for each figure as a PNG file')
  return command.run(its, argv, _write)


def _write(given) -> None:
  queries = frontier_command.number('--queries', given.queries)
  path, said = write(given.workdir, given.study, queries, given.figures)
  for line in said:
    print(f'- {line}')
  print(path)


if __name__ == '__main__':
  sys.exit(main())
