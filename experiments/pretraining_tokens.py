"""Pretraining or SFT: what is a better base worth, at each budget of SFT tokens?

    python run.py --config=experiments/pretraining_tokens.py --workdir=results/studies
    python -m analysis.frontier results/studies --study=pretraining_tokens --pretraining=counted

A grid: tokens of pretraining by tokens of SFT, at one size. Every base is a run of its own, with
its own decay. The second command chooses among all measured splits, pretraining paid for.

Time: 4 minutes of CPU, the drawing of problems included.

Seen at seed 2, 75k, 64 problems x 128: more pretraining on sums of two terms does not help SFT on
sums of three. Held-out loss, nats a response token (standard error .01 to .04), and pass@1 after
the most SFT:

    SFT tokens       92k     371k    1.48M    pass@1
    62k pretrained   1.644   0.642   0.339    11.3 % (s.e. 1.3)
    248k             1.680   0.763   0.268    12.0 % (1.9)
    989k             1.700   0.918   0.428     9.2 % (1.2)

So the best splits of 1, 2.6 and 6.5 TFLOP for 100k queries, pretraining paid for, all have the
least of it. The law of majority@k over all nine cells says the same: 62k at every budget, paid for
or not, and 10 times the pretraining worth 0.8 times the SFT tokens (95 % 0.75 to 0.85). One seed;
seeds of this base differ by as much (docs/lab-log.md).
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
