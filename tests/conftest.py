"""Every test sees 8 fake CPU devices, as a small pod would look."""

import jax

jax.config.update('jax_platforms', 'cpu')
jax.config.update('jax_num_cpu_devices', 8)
