"""On-policy distillation: a larger teacher, and the policy shown a critique of itself, beside GRPO.

    python run.py --config=experiments/distillation.py --workdir=results/test_time

Each token's advantage is log pi_teacher - log pi of the student's own sample (the per-token reverse
KL, one sample of it), without any reward of a verifier. The larger teacher is the SFT branch of
75k; the others are the student itself, which reads, before the same response: its own attempt and
whether that is right, or the problem's own solution in the place of an attempt.

Time: 1 min 8 s on 2 cores from the cached base.

Seen at seed 2: 25k, 16 x 8 samples an update, teacher 75k, which solves 53.9 %; 128 test problems x
64. Before: pass@1 5.9 %, pass@16 58.8 %. After 40 updates, change of pass@1 with its 95 % interval,
paired by problem, pass@16, and model FLOPs of the updates alone (rl_flops has what trained the
teacher besides):

    GRPO                  -0.3 points (-0.8 to +0.2)     54.9 %    21 GFLOP
    taught by 75k         -0.1        (-0.6 to +0.3)     56.8 %    39 GFLOP
    shown the solution    -0.7        (-1.2 to -0.1)     54.1 %    31 GFLOP
    shown its verdict     -5.2        (-5.9 to -4.6)      7.5 %    32 GFLOP

None gains, after 20 updates neither (the larger teacher +0.2, -0.2 to +0.6). The policy that reads
a critique of itself is no better teacher of itself: SFT showed it attempts with their verdicts, one
in four examples, and what it says behind them is worse than what it says alone. Coverage falls
beyond noise under all but the larger teacher (-2.0 points of pass@16, -4.8 to +1.1).
"""

from ml_collections import ConfigDict

from experiments import best_of_n
from scaling import config


def get_config(arg: str = '') -> ConfigDict:
  config.check_variant('distillation', arg)
  c = best_of_n.base(arg)
  c.name = 'distillation' + ('_smoke' if arg else '')
  teacher = c.model.sizes[-1]
  c.rl.sizes, c.rl.sft_tokens = (c.model.sizes[0],), c.sft.tokens
  c.rl.updates = (2,) if arg else (20, 40)
  c.rl.prompts, c.rl.group = 16, 8
  c.rl.learning_rate = 1.5e-4
  c.rl.runs = (
    'grpo',
    f"reinforce(reward='none', teacher='{teacher}')",
    "reinforce(reward='none', teacher='self verdict')",
    "reinforce(reward='none', teacher='self solution')",
  )
  return c
