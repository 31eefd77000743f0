"""What a study's tables are read as."""

import pandas as pd
import pytest

from analysis import readings


@pytest.mark.parametrize(
  'tokens, unique, column',
  [
    ([100, 200], [100, 200], 'sft_tokens'),
    ([400, 800], [100, 200], 'sft_unique_tokens'),  # each budget repeats its own
    ([400, 800], [100, 100], 'sft_tokens'),  # both walk the same pool
    ([100, 400, 200, 800], [100, 100, 200, 200], 'sft_tokens'),
    ([400], [100], 'sft_tokens'),  # one budget has no other to lie along
  ],
)
def test_the_tokens_that_losses_are_drawn_over(tokens, unique, column):
  cells = pd.DataFrame({'sft_tokens': tokens, 'sft_unique_tokens': unique})
  cells = cells.assign(seed=0, model='25k', pretrain_tokens=10)
  assert readings.token_column(cells) == column
