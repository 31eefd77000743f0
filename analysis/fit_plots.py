"""The figure of a fitted law: the data with the law, the residuals, and the parameters."""

import numpy as np

from analysis import columns as tables
from analysis import style
from analysis.fit import Fit
from analysis.minimise import parse_loss
from analysis.style import ACCENT, INK, MUTED, Drawing

GROUPS = 5  # colours, of the second input
TICKS = (  # of the ratio, from a reach on
  (20, (1e-3, 1e-2, 0.1, 1, 10, 100, 1e3)),
  (5, (0.1, 0.3, 1, 3, 10)),
  (1.7, (0.25, 0.5, 1, 2, 4)),
  (1.25, (0.7, 0.8, 0.9, 1, 1.1, 1.25, 1.5)),
  (0, (0.8, 0.85, 0.9, 0.95, 1, 1.05, 1.1, 1.15, 1.2)),
)
LOG_RATIO = 20  # of an axis's ends, from which on it is logarithmic


@style.styled
def fit_figure(fit: Fit, table) -> Drawing:
  """Left: output against the widest input, a colour for each range of the next; middle: residuals
  in the order of the prediction; right: each parameter's interval relative to its value.

  table: as given to the fit. Held-out rows are open circles. Bands and bars are 95 %.
  """
  options = fit.provenance['options']
  law, how = fit.definition, parse_loss(fit.loss)
  data = tables.read(
    law, table, fit.columns, log=how.log, se=options['se'], trials=options['trials'],
    clusters=None, drop=options['drop'], holdout=options['holdout'], missing=options['missing'],
  )  # fmt: skip
  inputs = [data.arrays[name] for name in law.inputs]
  output = data.arrays[law.output] / (data.arrays['trials'] if how.counts else 1)
  figure, axes = style.new(
    1, 3, width=11.4, height=4.2, gridspec_kw={'width_ratios': [1.35, 1, 0.85]}
  )
  _curves(axes[0], fit, inputs, output, data.held)
  _residuals(axes[1], fit, inputs, output, data.held, how.log)
  _parameters(axes[2], fit)
  n = len(fit.samples)
  note = f'{law.formula}     n = {fit.rows} rows'
  note += f', {fit.held} held out (open)' if fit.held else ''
  note += f', {len(fit.dropped)} dropped' if fit.dropped else ''
  note += f'; loss {fit.loss}; 95 % over {n} resamples' if n else f'; loss {fit.loss}'
  figure.suptitle(note, fontsize=8.5, color=MUTED, x=0.01, ha='left')
  return Drawing(f'fit_{fit.law}', f'The law {fit.law}, fitted', figure, caption(fit))


def caption(fit: Fit) -> str:
  """What the fit says, in a sentence or three."""
  known = [name for name in fit.params if fit.identified[name]]
  said = [f'{fit.law} on {fit.rows} rows: ' + ', '.join(_words(fit, name) for name in known) + '.']
  if fit.unidentified:
    said.append('Not identified by these data: ' + ', '.join(fit.unidentified) + '.')
  if fit.holdout_error is not None:
    better = 'less' if fit.holdout_error < fit.baseline_error else 'no less'
    said.append(
      f'On {fit.held} held-out rows it errs by {fit.holdout_error:.3g}, {better} than the nearest '
      f'fitted row ({fit.baseline_error:.3g}).'
    )
  return ' '.join(said)


def _words(fit, name):
  text = f'{name} = {fit.params[name]:.3g}'
  if name in fit.intervals and fit.intervals[name][0] < fit.intervals[name][1]:
    low, high = fit.intervals[name]
    text += f' ({low:.3g} to {high:.3g})'
  return text


def _spread(x):
  return np.log(x.max() / x.min()) if x.min() > 0 else 0.0


def _curves(axes, fit, inputs, output, held):
  law = fit.definition
  order = sorted(range(len(inputs)), key=lambda i: -_spread(inputs[i]))
  main, rest = order[0], order[1:]
  x = inputs[main]
  group, count = np.zeros(len(x), int), 1
  if rest:
    second = inputs[rest[0]]
    distinct = np.unique(second)
    edges = distinct if len(distinct) <= GROUPS else np.quantile(second, np.arange(GROUPS) / GROUPS)
    edges = np.unique(edges)
    group, count = np.searchsorted(edges, second, side='right') - 1, len(edges)
  colours = style.ramp(range(count)) if count > 1 else {0: ACCENT}
  for g in range(count):
    here = group == g
    if not here.any():
      continue
    span = _grid(x[here])
    at = [
      np.full(len(span), np.exp(np.mean(np.log(v[here]))) if v.min() > 0 else v[here].mean())
      for v in inputs
    ]
    at[main] = span
    label = None
    if rest:
      low, high = second[here].min(), second[here].max()
      ends = style.human(low) if low == high else f'{style.human(low)} to {style.human(high)}'
      label = f'{law.inputs[rest[0]]} {ends}'
    with np.errstate(all='ignore'):
      y = law.function(*fit.params.values(), *at) + 0 * span
      axes.plot(span, y, color=colours[g], lw=1.3, label=label, zorder=2)
      if len(fit.samples):
        curves = law.function(*fit.samples.T[:, :, None], *at) + 0 * span
        low, high = np.nanquantile(curves, [0.025, 0.975], axis=0)
        axes.fill_between(span, low, high, color=colours[g], alpha=0.15, lw=0, zorder=1)
    for mask, fill in ((here & ~held, colours[g]), (here & held, 'none')):
      axes.scatter(
        x[mask], output[mask], s=13, facecolors=fill, edgecolors=colours[g], lw=0.7, zorder=3,
        alpha=0.85,
      )  # fmt: skip
  _axis(axes.xaxis, x)
  if output.min() > 0 and output.max() / output.min() > 10:
    _axis(axes.yaxis, output, always=True)
  pad = 0.06 * np.ptp(output)
  if axes.get_yscale() == 'linear':
    axes.set_ylim(output.min() - pad, output.max() + pad)
  axes.set_xlabel(_name(fit, law.inputs[main]))
  axes.set_ylabel(_name(fit, law.output))
  axes.set_title('data and law')
  if rest:
    axes.legend(fontsize=7, loc='best')


def _name(fit, key):
  column = fit.columns[key].replace('`', '')
  return key if column == key else f'{key} = {column}'


def _grid(x):
  if x.min() > 0 and x.max() / x.min() > LOG_RATIO:
    return np.geomspace(x.min(), x.max(), 120)
  return np.linspace(x.min(), x.max(), 120)


def _axis(axis, values, always=False):
  if values.min() > 0 and (always or values.max() / values.min() > LOG_RATIO):
    style.log_axis(axis, values.min(), values.max())
    if axis.axis_name == 'y' and values.max() < 100:
      axis.set_major_formatter(lambda value, _: f'{value:g}')


def _residuals(axes, fit, inputs, output, held, log):
  predicted = fit.definition.function(*fit.params.values(), *inputs) + 0 * output
  with np.errstate(all='ignore'):
    r = 100 * np.log(output / predicted) if log else output - predicted
  axes.axhline(0, color=INK, lw=0.9)
  for mask, fill in ((~held, ACCENT), (held, 'none')):
    axes.scatter(
      predicted[mask], r[mask], s=13, facecolors=fill, edgecolors=ACCENT, lw=0.7, alpha=0.8
    )
  fitted = r[~held]
  axes.axhspan(*np.quantile(fitted, [0.025, 0.975]), color=MUTED, alpha=0.12, lw=0)
  axes.set_xlabel(f'predicted {fit.definition.output}')
  axes.set_ylabel('residual of the log, %' if log else 'residual')
  axes.set_title(f'residuals; median size {np.median(np.abs(fitted)):.2g}{" %" if log else ""}')


def _parameters(axes, fit):
  """Each parameter's interval, as a ratio to its value; the numbers in words beside it."""
  names = list(fit.params)
  axes.axvline(1, color=MUTED, lw=0.9)
  reach = 1.2
  for i, name in enumerate(names):
    value, known = fit.params[name], fit.identified[name]
    colour = ACCENT if known else MUTED
    ends = fit.profiles.get(name) if fit.profiles else fit.intervals.get(name)
    words = f'{name} = {value:.4g}'
    if ends and ends[0] < ends[1]:
      words += f'\n{ends[0]:.3g} … {ends[1]:.3g}'
      if value > 0 and ends[0] > 0:
        ratio = np.clip(np.array(ends) / value, 1e-3, 1e3)
        axes.plot(ratio, [i, i], color=colour, lw=2.2, ls='-' if known else ':')
        reach = max(reach, ratio[1], 1 / ratio[0])
    axes.plot([1], [i], 'o' if known else 'x', color=colour, ms=5)
    axes.annotate(
      words + ('' if known else '\nnot identified'), (1.02, i), xycoords=('axes fraction', 'data'),
      fontsize=7.5, va='center', color=INK if known else MUTED,
    )  # fmt: skip
  axes.set_xscale('log')
  reach = min(reach, 1e3) ** 1.1
  axes.set_xlim(1 / reach, reach)
  marks = next(marks for least, marks in TICKS if reach > least)
  ticks = [t for t in marks if 1 / reach < t < reach]
  axes.set_xticks(ticks, [f'{t:g}' for t in ticks])
  axes.minorticks_off()
  axes.set_ylim(len(names) - 0.5, -0.5)
  axes.set_yticks(range(len(names)), [''] * len(names))
  axes.grid(axis='y', visible=False)
  axes.set_xlabel('ratio to the value')
  axes.set_title('parameters, 95 %' + (' (profile)' if fit.profiles else ''))
