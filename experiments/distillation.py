"""On-policy distillation: a larger teacher, and the policy shown a critique of itself, beside GRPO.

    python run.py --config=experiments/distillation.py --workdir=results/test_time

Each token's advantage is log pi_teacher - log pi of the student's own sample (the per-token reverse
KL, one sample of it), without any reward of a verifier. The larger teacher is the SFT branch of
75k; the others are the student itself, which reads, before the same response: its own attempt and
whether that is right, or the problem's own solution in the place of an attempt.

Time: not run at this size, nor was the teacher of 75k.

Seen smaller, at one seed (2): 25k at the small setting of self_rewarding.py, 16 x 8 samples an
update, 128 test problems x 32; pass@1 6.8 % before. Change over it, paired by problem, +- standard
error, after 20 and 40 updates: GRPO +0.9 +- 0.6 and +1.4 +- 0.7 points (3.4 and 6.8 GFLOP), shown
its verdict -0.3 +- 0.9 and -1.0 +- 1.2 (5.7 and 11.4), shown the solution +0.5 +- 0.6 and
-0.4 +- 0.8 (5.4 and 10.8). pass@8 goes from 30.5 % to 32.4 with GRPO and falls to 18.0 and 24.9
with the two self-teachers: neither gains, at about equal FLOPs or at more.
"""

from ml_collections import ConfigDict

from experiments import best_of_n


def get_config(arg: str = '') -> ConfigDict:
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
