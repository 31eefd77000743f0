"""A server that speaks both protocols, answers products by chance, and misbehaves when told to.

As a program, for looking at: python -m tests.hosted.server [PORT]
"""

import http.server
import json
import random
import re
import sys
import threading
import time

PROBLEM = re.compile(r'(\d+) \* (\d+)')


class Fake:
  """A running server. `script`: what to do with the next requests, one each, then 'ok' for ever.

  '500', '429', '401', '400', 'stall', 'truncate', 'not json', 'malformed', 'empty', 'cut'.
  """

  def __init__(self, script=(), latency=0.0, right=0.6, port=0, seed=0):
    self.script, self.latency, self.right = list(script), latency, right
    self.random = random.Random(seed)
    self.requests, self.bodies, self.heads, self.times = 0, [], [], []
    self.active = self.peak = 0
    self.always = None  # what to do with every request
    self.retry_after = '0.2'
    self.lock, self.let_go = threading.Lock(), threading.Event()
    fake = self

    class Handler(http.server.BaseHTTPRequestHandler):
      protocol_version = 'HTTP/1.1'

      def log_message(self, *_):
        pass

      def do_POST(self):
        fake.answer(self)

    self.http = http.server.ThreadingHTTPServer(('127.0.0.1', port), Handler)
    self.http.daemon_threads = True
    threading.Thread(target=self.http.serve_forever, args=(0.02,), daemon=True).start()
    self.address = f'http://127.0.0.1:{self.http.server_port}'

  def url(self, provider: str) -> str:
    return self.address + ('/v1' if provider == 'openai' else '')

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self.let_go.set()
    self.http.shutdown()
    self.http.server_close()

  def answer(self, handler) -> None:
    body = json.loads(handler.rfile.read(int(handler.headers['content-length'])))
    with self.lock:
      self.requests += 1
      self.bodies.append(body)
      self.heads.append(dict(handler.headers))
      self.times.append(time.monotonic())
      do = self.always or (self.script.pop(0) if self.script else 'ok')
      self.active += 1
      self.peak = max(self.peak, self.active)
      text = self.text(body['messages'][-1]['content'])
    time.sleep(self.latency)
    with self.lock:
      self.active -= 1
    if do == 'stall':  # the client will have gone
      self.let_go.wait(30)
    try:
      self.send(handler, do, body, text)
    except OSError:
      pass  # the client has gone

  def send(self, handler, do, body, text) -> None:
    status, extra = 200, {}
    anthropic = handler.path == '/v1/messages'
    if do == 'cut':
      handler.close_connection = True
      return
    if do in ('500', '429', '401', '400', '404'):
      status = int(do)
      # as a careless server would: with the key in it
      said = handler.headers.get('x-api-key') or handler.headers.get('authorization')
      error = {'type': 'some_error', 'message': f'told to answer {do} to {said}'}
      content = json.dumps({'type': 'error', 'error': error})
      extra = {'retry-after': self.retry_after} if do == '429' else {}
    elif not anthropic and handler.path != '/v1/chat/completions':
      status, content = 404, '{"error": {"message": "no such path"}}'
    elif do == 'not json':
      content = 'this is {not json'
    elif do == 'malformed':
      content = json.dumps({'id': 3, 'content': 7, 'choices': [{'message': 5}]})
    else:
      content = json.dumps((self.message if anthropic else self.chat)(do, body, text))
    data = content.encode()
    handler.send_response(status)
    kind = 'text/plain' if do == 'not json' and not anthropic else 'application/json'
    heads = {'content-type': kind, 'content-length': str(len(data)), **extra}
    for name, value in (heads | {'request-id': f'req_{self.requests}'}).items():
      handler.send_header(name, value)
    handler.end_headers()
    handler.wfile.write(data)

  def message(self, do, body, text) -> dict:
    cut = do == 'truncate'
    return {
      'id': 'msg_1', 'type': 'message', 'role': 'assistant', 'model': body['model'] + '-1',
      'content': [] if do == 'empty' else [{'type': 'text', 'text': text[:5] if cut else text}],
      'stop_reason': 'max_tokens' if cut else 'end_turn', 'stop_sequence': None,
      'usage': {
        'input_tokens': 40, 'output_tokens': body['max_tokens'] if cut else 20,
        'cache_read_input_tokens': 10, 'cache_creation_input_tokens': 0,
      },
    }  # fmt: skip

  def chat(self, do, body, text) -> dict:
    cut = do == 'truncate'
    most = body.get('max_tokens') or body['max_completion_tokens']
    message = {'role': 'assistant', 'content': text[:5] if cut else text}
    if do == 'empty':
      message['content'] = None
    return {
      'id': 'chatcmpl_1', 'object': 'chat.completion', 'created': 0, 'model': body['model'] + '-1',
      'choices': [
        {'index': 0, 'finish_reason': 'length' if cut else 'stop', 'message': message}
      ],
      'usage': {
        'prompt_tokens': 50, 'completion_tokens': most if cut else 20, 'total_tokens': 0,
        'prompt_tokens_details': {'cached_tokens': 10},
      },
    }  # fmt: skip

  def text(self, prompt: str) -> str:
    """What the model says: a product, right by chance; or, of a response, how right it is."""
    a, b = map(int, PROBLEM.search(prompt).groups())
    if 'Score: NUMBER' in prompt:
      given = re.search(r'#(\S+)', prompt.split('<response>')[1])
      right = given is not None and given[1] == str(a * b)
      if self.random.random() < 0.1:
        return 'I cannot tell.'
      return f'Let me see.\nScore: {self.random.choice((6, 8, 9) if right else (1, 4, 8))}'
    if 'Better: A' in prompt:
      first = prompt.split('<response A>')[1].split('</response A>')[0]
      good = f'#{a * b}' in first
      return f'Hm.\nBetter: {"A" if good else "B"}'
    value = a * b + (0 if self.random.random() < self.right else 10 * self.random.randint(1, 3))
    return f'{a} times {b} is what we want.\n#{value}'


if __name__ == '__main__':
  with Fake(latency=0.05, port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as server:
    print(f'{server.address}: anthropic there, openai at /v1', flush=True)
    while True:
      time.sleep(60)
