"""What a study's tables are read as."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
from scipy import stats

from analysis import readings


@pytest.mark.parametrize(
  'tokens, unique, column',
  [
    ([100, 200], [100, 200], 'sft_tokens'),
    ([400, 800], [100, 200], 'sft_unique_tokens'),  # each budget repeats its own
    ([100, 200, 800], [100, 200, 400], 'sft_tokens'),  # only the largest walks the pool twice
    ([400, 800], [100, 100], 'sft_tokens'),  # both walk the same pool
    ([100, 400, 200, 800], [100, 100, 200, 200], 'sft_tokens'),
    ([400], [100], 'sft_tokens'),  # one budget has no other to lie along
  ],
)
def test_the_tokens_that_losses_are_drawn_over(tokens, unique, column):
  cells = pd.DataFrame({'sft_tokens': tokens, 'sft_unique_tokens': unique})
  cells = cells.assign(seed=0, model='25k', pretrain_tokens=10)
  assert readings.token_column(cells) == column


def test_the_error_of_a_loss_over_problems_that_seeds_share():
  values, within = [0.30, 0.34, 0.32], 0.01
  records = pd.DataFrame({'seed': [0, 1, 2], 'value': values, 'stderr': within})
  records = records.assign(
    metric='loss', rl_updates=0, model='25k', pretrain_tokens=10, sft_tokens=100, problems=64,
    params_non_embedding=25e3, sft_unique_tokens=100,
  )  # fmt: skip
  (row,) = readings.losses(SimpleNamespace(records=records)).itertuples()
  seeds = stats.t.ppf(0.975, 2) * stats.sem(values)
  assert row.value == pytest.approx(0.32)
  assert 1.96 * row.stderr == pytest.approx(math.hypot(1.96 * within, seeds))
