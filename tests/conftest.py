"""Every test sees 8 fake CPU devices, as a small pod would look, and programs compile fast."""

import atexit
import contextlib
import os
import shutil
import tempfile

if 'JAX_COMPILATION_CACHE_DIR' not in os.environ:  # of this run alone; its workers share it
  os.environ['JAX_COMPILATION_CACHE_DIR'] = tempfile.mkdtemp(prefix='postscale-tests-')
  atexit.register(shutil.rmtree, os.environ['JAX_COMPILATION_CACHE_DIR'], ignore_errors=True)
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0.3')
os.environ.setdefault(
  'XLA_FLAGS', '--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false'
)  # half of the compile time each
os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # of the commands that tests run, too

import jax
import pytest

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)


NO_SANDBOX = 'sandbox: not available here'


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
  with _skipping():
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
  with _skipping():
    return (yield)


@contextlib.contextmanager
def _skipping():
  """Skips a test that needs the sandbox, with the reason, where the machine does not allow it."""
  try:
    yield
  except Exception as error:
    if NO_SANDBOX in str(error):
      pytest.skip(str(error))
    raise


@pytest.fixture(scope='session')
def tiny_workdir(tmp_path_factory):
  """The tiny study, run once for all tests that look at what a study leaves."""
  from scaling import study
  from tests import tiny

  return study.run(tiny.get_config(), tmp_path_factory.mktemp('tiny') / 'workdir')
