"""Pretraining or SFT: what is a better base worth, at each budget of SFT tokens?

    python run.py --config=experiments/pretraining_tokens.py --workdir=results/studies
    python -m analysis.frontier results/studies --study=pretraining_tokens --pretraining=counted

A grid: tokens of pretraining by tokens of SFT, at one size. Every base is a run of its own, with
its own decay. The second command chooses among all measured splits, pretraining paid for.

Time: 1 min 50 s on 2 cores after sft_tokens.py in the same workdir, one of whose bases it shares;
half a minute more alone.

Seen at seed 2, 75k, 64 problems x 128: more pretraining on sums of two terms helps SFT on sums of
three. Held-out loss, nats a response token (standard error .002 to .006), and pass@1 after the most
SFT:

    SFT tokens       92k     370k    1.48M    pass@1
    64k pretrained   1.446   0.626   0.376     5.7 % (s.e. 0.4)
    255k             1.402   0.592   0.376     6.1 % (0.5)
    1.02M            1.374   0.707   0.274    11.3 % (1.5)

After 370k tokens the loss of the third base is the highest and its pass@1 is too (1.3, 2.2 and
2.7 %). The best splits of 0.94, 2.1 and 4.7 TFLOP for 100k queries, pretraining paid for, have
255k, 1.02M and 1.02M of it. The law of majority@k over all nine cells says much the same: 310k
(95 % 160k to 410k), then the most; the most at every budget where it costs nothing. 10 times the
pretraining is worth 2.5 times the SFT tokens (1.7 to 3.7). One seed; three seeds of the middle base
end at 0.35 to 0.38 nats and 6.6 to 8.3 % (sft_tokens.py). On sums of one and two digits more
pretraining had not helped.
"""

from ml_collections import ConfigDict

from experiments import quickstart
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('pretraining_tokens', arg)
  c = quickstart.get_config(arg)
  c.name = 'pretraining_tokens' + ('_smoke' if arg else '')
  c.rl.updates, c.rl.sizes, c.rl.sft_tokens = (), (), ()
  c.model.sizes = ('25k',) if arg else ('75k',)
  c.pretrain.tokens = (4_608, 9_216) if arg else (65_536, 262_144, 1_048_576)
  c.sft.tokens = (9_216, 36_864) if arg else (98_304, 393_216, 1_572_864)
  return c
