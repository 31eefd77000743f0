"""run.py as a user types it, in processes that begin with its libraries imported already."""

import multiprocessing
import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORKS = multiprocessing.get_context('forkserver')
FORKS.set_forkserver_preload(['scaling.study', 'scaling.topology', 'analysis.report'])


def command(folder, *args) -> subprocess.CompletedProcess:
  """What `python run.py ARGS` says and its exit code; folder: for what it prints."""
  out, err = Path(folder) / 'stdout', Path(folder) / 'stderr'
  process = FORKS.Process(target=_run, args=(args, out, err))
  process.start()
  process.join()
  return subprocess.CompletedProcess(args, process.exitcode, out.read_text(), err.read_text())


def _run(args, out, err):
  for stream, path in ((1, out), (2, err)):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
  sys.stdout, sys.stderr = open(1, 'w'), open(2, 'w')
  os.chdir(ROOT)
  sys.argv = ['run.py', *args]
  runpy.run_path('run.py', run_name='__main__')
