"""Best-of-n over a model behind an API: majority vote, a judge, and the oracle above both.

    export ANTHROPIC_API_KEY=…      (or OPENAI_API_KEY; read from the environment and nowhere else)
    pip install -r requirements-hosted.txt
    python run.py --config=experiments/api_best_of_n.py:anthropic/MODEL --workdir=results/api
    python run.py --config=experiments/api_best_of_n.py:openai/MODEL --workdir=results/api

The argument is PROVIDER/MODEL; say --plan first to see how many calls it makes. A server of your
own that speaks OpenAI's protocol, say vLLM: --config.hosted.base_url=http://localhost:8000/v1. With
the prices of the model, per million tokens, there is an account of money and a cap on it:
--config.hosted.input_price=… --config.hosted.output_price=… --config.hosted.cap_money=…

A judge for best-of-n: --config.judge.provider=openai --config.judge.model=MODEL, and its prices.

32 problems of multiplication x 8 responses are 256 calls. A run that was cut off, or met a cap,
goes on when the same command is run again, and pays for nothing twice; a larger config.hosted.n
draws only what is missing. The smoke variant is 4 problems x 4.

Seen: no hosted model was asked for this file; against a local server that speaks both protocols and
answers by chance, 256 completions of 50 ms took 8.4 s at concurrency 4, on two cores that others
were using too.
"""

from ml_collections import ConfigDict

from scaling import checks, config
from scaling.errors import BadInput


def get_config(arg: str = '') -> ConfigDict:
  c = config.default()
  c.name = 'api_best_of_n'
  c.data.task = 'products(min_terms=2,max_terms=2,min_digits=3,max_digits=4)'
  c.data.style = 'full'
  c.data.test_problems = 32
  if arg in ('', 'smoke'):  # a name to plan with; a run says which model
    arg, smoke = 'anthropic/MODEL', arg == 'smoke'
  else:
    arg, _, word = arg.partition(',')
    smoke = word == 'smoke'
    if word and not smoke:
      raise BadInput(f'experiments/api_best_of_n.py: after a comma, smoke is known, not {word!r}')
  c.hosted.provider, slash, c.hosted.model = arg.partition('/')
  if not slash or not c.hosted.model or c.hosted.provider not in checks.PROVIDERS:
    raise BadInput(
      f'experiments/api_best_of_n.py:{arg}: say PROVIDER/MODEL, the provider one of '
      f'{", ".join(checks.PROVIDERS)}'
    )
  c.name += '-' + ''.join(x if x.isalnum() else '_' for x in c.hosted.model)
  if smoke:
    c.name += '_smoke'
    c.data.test_problems, c.hosted.n = 4, 4
  return c
