"""Every test sees 8 fake CPU devices, as a small pod would look, and programs compile fast."""

import os

os.environ.setdefault('XLA_FLAGS', '--xla_backend_optimization_level=0')
os.environ.setdefault('JAX_PLATFORMS', 'cpu')  # of the commands that tests run, too

import jax
import pytest

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)


@pytest.fixture(scope='session')
def tiny_workdir(tmp_path_factory):
  """The tiny study, run once for all tests that look at what a study leaves."""
  from scaling import study
  from tests import tiny

  return study.run(tiny.get_config(), tmp_path_factory.mktemp('tiny') / 'workdir')
