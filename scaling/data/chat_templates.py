"""Chat templates of tokenizers: found, rendered as transformers renders them, and made into ids."""

import datetime
import functools
import itertools
import json
import pathlib
import re
from collections.abc import Callable

import jinja2
import jinja2.ext
import jinja2.sandbox

from scaling.data.vocab import turns
from scaling.errors import BadInput

# What `strftime_now` of a template gives: a prompt must not change overnight. It is the date that
# Llama 3.1's own template falls back to.
TODAY = datetime.datetime(2024, 7, 26)


def find(main: pathlib.Path, others, config: dict) -> tuple[pathlib.Path, str]:
  """(the file that has it, the chat template). Raises BadInput where there is none."""
  for file in others:
    if file.name == 'chat_template.jinja':  # goes before the one in the configuration
      return file, file.read_text('utf-8')
  found = config.get('chat_template')
  if isinstance(found, list):  # several, by name
    found = {each.get('name'): each.get('template') for each in found if isinstance(each, dict)}
    found = found.get('default')
  if not isinstance(found, str):
    raise BadInput(
      f"{main.parent}: data.style is 'chat' and the tokenizer has no chat template: put one in "
      "tokenizer_config.json (chat_template), or use data.style = 'full'"
    )
  return main.parent / 'tokenizer_config.json', found


class _Generation(jinja2.ext.Extension):
  """The tag `generation`, with which templates mark what an assistant says: written as it is."""

  tags = frozenset({'generation'})

  def parse(self, parser):
    next(parser.stream)
    return parser.parse_statements(('name:endgeneration',), drop_needle=True)


def renderer(source: pathlib.Path, template: str, named: dict) -> Callable:
  """`render(messages, add_generation_prompt)`: a template as transformers renders it.

  Only `strftime_now` differs: its day is TODAY. Raises BadInput for whatever a template does wrong.
  """

  def refuse(message):
    raise jinja2.TemplateError(message)

  environment = jinja2.sandbox.ImmutableSandboxedEnvironment(
    trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
  )
  environment.filters['tojson'] = functools.partial(json.dumps, ensure_ascii=False)
  environment.globals |= {'raise_exception': refuse, 'strftime_now': TODAY.strftime}
  try:
    compiled = environment.from_string(template)
  except jinja2.TemplateSyntaxError as error:
    raise BadInput(
      f'{source}: its chat template has a syntax error in line {error.lineno} '
      f'({line(error.message)}): mend the template'
    ) from None

  def render(messages, add_generation_prompt):
    try:
      return compiled.render(
        messages=messages,
        tools=None,
        documents=None,
        add_generation_prompt=add_generation_prompt,
        **named,
      )
    except Exception as error:  # whatever a template may raise
      roles = ', '.join(message['role'] for message in messages)
      raise BadInput(
        f'{source}: its chat template fails on a chat of {roles} ({line(error)}): mend the '
        "template, or use data.style = 'full'"
      ) from None

  return render


def end_of_turn(render: Callable, specials: list[str]) -> str | None:
  """The special token that a template writes after what an assistant said, or None."""
  said = 'It is 42.'
  chat = [{'role': 'user', 'content': 'What is it?'}, {'role': 'assistant', 'content': said}]
  try:
    after = render(chat, False).rpartition(said)[2].lstrip()
  except BadInput:
    return None
  return max((token for token in specials if after.startswith(token)), key=len, default=None)


def prompt(
  plain: Callable,
  marked: Callable,
  id_of: Callable,
  special: re.Pattern,
  render: Callable,
  text: str,
) -> list[int]:
  """Ids of a chat in which a user has said `text` and the assistant is to speak; or of the messages
  that `text` is `vocab.written` of.

  plain, marked: the ids of a text, and of one in which special tokens are read; id_of: of such a
  token; special: matches any of them.
  Those that the text itself spells are hidden from the template, and each stretch between the
  template's own is encoded by itself.
  """
  text, hidden, mark = utf8(text).rstrip('\n'), [], '\ue000'
  chat = lambda text: render(turns(text) or [{'role': 'user', 'content': text}], True)
  if not special.search(text):  # as nearly always: encoded at one go, as transformers does
    return marked(chat(text))
  while mark in text:
    mark += '\ue000'

  def hide(found):
    hidden.append(found[0])
    return f'{mark}{len(hidden) - 1}{mark}'

  while special.search(text):
    text = special.sub(hide, text)
  ids = []
  rendered, at = chat(text), 0
  for found in itertools.chain(special.finditer(rendered), [None]):
    stretch = rendered[at : found.start() if found else None]
    for i in reversed(range(len(hidden))):
      stretch = stretch.replace(f'{mark}{i}{mark}', hidden[i])
    ids += plain(stretch) if stretch else []
    if found:
      ids.append(id_of(found[0]))
      at = found.end()
  return ids


def utf8(text: str) -> str:
  """The text with '?' for halves of surrogate pairs, which no tokenizer takes."""
  return text.encode('utf-8', 'replace').decode()


def line(error) -> str:
  """An error in one line."""
  return ' '.join(str(error).split())[:200]
