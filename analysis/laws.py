"""The laws: plain functions of named parameters, each with its formula, bounds and source.

A law is a function of its parameters, each annotated with its bounds, and of its inputs, arrays
that broadcast. The first line of its docstring is its formula. `fit` takes a function of your own
just so; there, inputs may also be told from parameters by a bare star:

  def my_law(floor: (0, 10), A: (1e-9, 1e9), alpha: (0.01, 3), *, x):
    return floor + A * x**-alpha

A parameter with bounds above 0, far apart, is fitted on a log scale; one without bounds may be any
number. Laws are written in arithmetic and numpy's functions, which `jets` differentiates; np.where
has np.minimum and np.maximum in its place. Which parameters are linear is found from the
derivatives; the others start from a grid, the annotation's third part if it has one.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import gammaln

from analysis import jets, proposals
from analysis.errors import BadInput


class Param(NamedTuple):
  """A parameter and its bounds.

  grid: values to start from; or the name of an input whose range they span; or none, for `starts`
  to choose.
  """

  name: str
  lower: float
  upper: float
  grid: tuple | str | None = None


class Law(NamedTuple):
  """A named formula. `output` and `inputs` are the keys of the `columns` that `fit` takes."""

  name: str
  formula: str
  inputs: tuple[str, ...]
  output: str
  params: tuple[Param, ...]
  function: Callable  # (*params, *inputs) -> prediction
  source: str
  from_zero: tuple[str, ...] = ()  # inputs that may be 0
  signed: tuple[str, ...] = ()  # inputs that may be any number
  propose: Callable | None = None  # (inputs [I, n], output [n]) -> parameters [S, P], instead


EXPONENTS = tuple(np.geomspace(0.05, 2.0, 10))
FLOOR = (1e-6, 1e6)
SCALE = (1e-9, 1e30)
EXPONENT = (1e-3, 5.0, EXPONENTS)
SHARE = (0.0, 1.0)
ANY = (-np.inf, np.inf)
OVER_X, OVER_C, OVER_N = ((1e-12, 1e30, name) for name in ('x', 'C', 'N'))
BEND = (-5.0, 5.0, (-0.3, 0.3))
SHARPNESS = (0.02, 5.0, (0.1, 1.0))


def from_function(function: Callable, output: str, **about) -> Law:
  """The Law of an annotated function: name, formula, parameters with bounds, and inputs.

  Where the function has keyword-only arguments, these are its inputs, and all others parameters;
  else the annotated ones are parameters. BadInput for bounds that are no (lower, upper).
  """
  name = getattr(function, '__name__', 'law')
  arguments = list(inspect.signature(function).parameters.values())
  starred = [a.name for a in arguments if a.kind is a.KEYWORD_ONLY]
  noted = [a for a in arguments if a.annotation is not a.empty]
  known = [a for a in arguments if a.name not in starred] if starred else noted
  inputs = starred or [a.name for a in arguments if a.annotation is a.empty]
  if not known or not inputs or [a.name for a in arguments] != [*(a.name for a in known), *inputs]:
    raise BadInput(
      f'law {name}: write its parameters, then *, then its inputs: def {name}(a, b, *, x)'
    )
  params = []
  for a in known:
    bounds = ANY if a.annotation is a.empty else a.annotation
    lower, upper, *grid = (
      bounds if isinstance(bounds, tuple) and len(bounds) in (2, 3) else ANY[:1] * 2
    )
    if not lower < upper:
      raise BadInput(f'law {name}: parameter {a.name}: bounds are (lower, upper), not {bounds!r}')
    params.append(Param(a.name, float(lower), float(upper), *grid))
  call = function
  if starred:
    call = lambda *v: function(
      *v[: len(params)], **dict(zip(inputs, v[len(params) :], strict=True))
    )
  formula = (inspect.getdoc(function) or f'{output} = {name}({", ".join(inputs)})').splitlines()[0]
  about = {'source': 'given by the caller', **about}
  return Law(name, formula.rstrip('.'), tuple(inputs), output, tuple(params), call, **about)


# Pretraining and data.


def power(E: FLOOR, A: SCALE, alpha: EXPONENT, x):
  """L = E + A x^-alpha

  A floor and a falling power of one resource.
  """
  return E + A * np.exp(-alpha * np.log(x))


def chinchilla(E: FLOOR, A: SCALE, alpha: EXPONENT, B: SCALE, beta: EXPONENT, N, D):
  """L = E + A / N^alpha + B / D^beta

  N parameters, D tokens. Published: E 1.69, A 406.4, B 410.7, alpha .34, beta .28; refitted
  (2404.10102): 1.82, 482, 2085, .348, .366.
  """
  return E + A * np.exp(-alpha * np.log(N)) + B * np.exp(-beta * np.log(D))


def kaplan_one(x_c: SCALE, alpha: EXPONENT, x):
  """L = (x_c / x)^alpha

  Of parameters or of tokens alone, the other being plenty: no floor.
  """
  return np.exp(alpha * (np.log(x_c) - np.log(x)))


def kaplan(N_c: SCALE, alpha_N: EXPONENT, D_c: SCALE, alpha_D: EXPONENT, N, D):
  """L = [(N_c / N)^(alpha_N / alpha_D) + D_c / D]^alpha_D

  N parameters without embeddings, D tokens.
  """
  ratio = np.exp(alpha_N / alpha_D * (np.log(N_c) - np.log(N))) + D_c / D
  return np.exp(alpha_D * np.log(ratio))


def data_constrained(
  E: FLOOR,
  A: SCALE,
  alpha: EXPONENT,
  B: SCALE,
  beta: EXPONENT,
  R_N: (1e-3, 1e9),
  R_D: (1e-3, 1e9),
  N,
  D,
  U,
):
  """L = E + A / N_eff^alpha + B / D_eff^beta, D_eff = U + U R_D (1 - exp(-(D/U - 1) / R_D))

  N parameters, D tokens of which U are unique. Repeated tokens lose worth with half-life R_D in
  epochs. N_eff is likewise of R_N and of U_N, the parameters that are compute-optimal for U tokens
  (or N, where it is less): U_N = G (G U)^(beta / alpha), G = (alpha A / (beta B))^(1/(alpha+beta)).
  """
  log_G, ratio = np.log(alpha * A / (beta * B)) / (alpha + beta), beta / alpha
  U = np.minimum(U, D)
  excess = np.log(N) - log_G * (1 + ratio) - ratio * np.log(U)  # log N / U_N
  tokens = U + U * R_D * -np.expm1(-(D / U - 1) / R_D)
  size = jets.through(_of_size, A, alpha, R_N, excess, np.log(N))
  return E + size + B * np.exp(-beta * np.log(tokens))


def _of_size(A, alpha, R_N, excess, log_N):
  """A / N_eff^alpha, N_eff of N and of the excess, log N / U_N."""
  excess = np.maximum(excess, 0.0)
  log_size = log_N - excess + np.log1p(R_N * -np.expm1(-np.expm1(excess) / R_N))
  return A * np.exp(-alpha * log_size)


def repeated(E: FLOOR, B: SCALE, beta: EXPONENT, R_D: (1e-3, 1e9, (1.0, 4.0, 16.0, 64.0)), D, U):
  """L = E + B / D_eff^beta, D_eff = U + U R_D (1 - exp(-(D/U - 1) / R_D))

  data_constrained at one size: D tokens of which U are unique.
  """
  U = np.minimum(U, D)
  tokens = U + U * R_D * -np.expm1(-(D / U - 1) / R_D)
  return E + B * np.exp(-beta * np.log(tokens))


def overtraining(E: FLOOR, a: SCALE, b: SCALE, eta: EXPONENT, C, M):
  """L = E + (a M^eta + b M^-eta) C^-eta

  C FLOPs of training, M tokens for each parameter: Chinchilla's law at equal exponents, by the
  degree of over-training.
  """
  log_M, log_C = np.log(M), np.log(C)
  return E + a * np.exp(eta * (log_M - log_C)) + b * np.exp(-eta * (log_M + log_C))


def downstream_error(epsilon: (1e-3, 10.0), k: (1e-9, 1e9), gamma: (1e-3, 50.0, EXPONENTS), L):
  """Err = epsilon - k exp(-gamma L)

  The error of downstream tasks, averaged, from the loss L.
  """
  return epsilon - k * np.exp(-gamma * L)


def bnsl(
  a: ANY,
  b: ANY,
  c0: (-5.0, 5.0, (0.05, 0.2, 0.6)),
  c1: BEND,
  d1: OVER_X,
  f1: SHARPNESS,
  x,
):
  """y = a + b x^-c0 (1 + (x / d1)^(1 / f1))^(-c1 f1)

  A broken neural scaling law: the exponent goes from c0 to c0 + c1 around the break d1, the more
  smoothly the larger f1.
  """
  return a + b * np.exp(-c0 * np.log(x) - _bend(np.log(x), c1, np.log(d1), f1))


def bnsl2(
  a: ANY,
  b: ANY,
  c0: (-5.0, 5.0, (0.05, 0.2, 0.6)),
  c1: BEND,
  d1: OVER_X,
  f1: SHARPNESS,
  c2: BEND,
  r2: (1.0, 1e15, (10.0, 100.0, 1e4)),
  f2: SHARPNESS,
  x,
):
  """y = a + b x^-c0 prod_i (1 + (x / d_i)^(1 / f_i))^(-c_i f_i), i = 1, 2, d2 = d1 r2

  Two breaks, the second beyond the first.
  """
  log_x, log_d = np.log(x), np.log(d1)
  bends = _bend(log_x, c1, log_d, f1) + _bend(log_x, c2, log_d + np.log(r2), f2)
  return a + b * np.exp(-c0 * log_x - bends)


def _bend(log_x, c, log_d, f):
  return c * f * np.logaddexp(0, (log_x - log_d) / f)


# SFT.


def sft_multiplicative(A: SCALE, alpha: EXPONENT, beta: EXPONENT, E: FLOOR, X, D):
  """L = A X^-alpha D^-beta + E

  X model size, pretraining tokens or adapter parameters; D SFT tokens.
  """
  return A * np.exp(-alpha * np.log(X) - beta * np.log(D)) + E


def sft_additive(A: SCALE, alpha: EXPONENT, B: SCALE, beta: EXPONENT, E: FLOOR, X, D):
  """L = A X^-alpha + B D^-beta + E

  The rival of sft_multiplicative.
  """
  return A * np.exp(-alpha * np.log(X)) + B * np.exp(-beta * np.log(D)) + E


def rectified(B: SCALE, D_l: SCALE, beta: EXPONENT, E: FLOOR, D):
  """L = B / (D_l + D^beta) + E

  D SFT examples, 0 included; D_l is what pretraining has taught already, in the same units.
  """
  power = np.exp(beta * np.log(np.where(D > 0, D, 1.0))) * (D > 0)
  return B / (D_l + power) + E


def log_linear(a: ANY, b: ANY, x):
  """y = a + b log x

  No floor, no ceiling and no exponent: accuracy in SFT data, or in the number of distinct reasoning
  paths.
  """
  return a + b * np.log(x)


# RL.


def sigmoid(R_0: SHARE, A: SHARE, C_mid: OVER_C, B: (0.05, 20.0, (0.5, 1, 2, 4)), C):
  """R = R_0 + (A - R_0) / (1 + (C_mid / C)^B)

  From R_0 to the ceiling A, half-way at the compute C_mid.
  """
  return R_0 + (A - R_0) / (1 + np.exp(B * (np.log(C_mid) - np.log(C))))


def rising_power(A: SHARE, B: SCALE, alpha: EXPONENT, C):
  """R = A - B C^-alpha

  A ceiling, approached as a power: the rival of the sigmoid, which it over-predicts.
  """
  return A - B * np.exp(-alpha * np.log(C))


def rl_size(K_max: (1e-6, 10.0), N_0: OVER_N, e_0: ANY, e_1: ANY, N, X):
  """log L = -k(N) log X + e_0 + e_1 log N, k(N) = K_max / (1 + N_0 / N)

  L = 1 - pass@1, N parameters, X compute or samples of RL. The source has an intercept E(N) of each
  size for itself; here it is a line in log N. The output is L.
  """
  rate = K_max / (1 + N_0 / N)
  return np.exp(-rate * np.log(X) + e_0 + e_1 * np.log(N))


def gold_best_of_n(alpha: ANY, beta: ANY, d):
  """R = d (alpha - beta d)

  The gold reward of best-of-n under a learned one; d = sqrt(KL). KL is log n - (n - 1) / n at the
  most, and less where samples tie.
  """
  return d * (alpha - beta * d)


def gold_rl(alpha: ANY, beta: ANY, d):
  """R = d (alpha - beta log d)

  The gold reward of RL under a learned one; d = sqrt(KL).
  """
  return d * (alpha - beta * np.log(np.where(d > 0, d, 1.0)))


def entropy(a: ANY, b: ANY, H):
  """R = -a e^H + b

  The reward of RL against the policy's entropy H that is left.
  """
  return -a * np.exp(H) + b


def intrinsic(
  N_c: SCALE, alpha_N: EXPONENT, E_c: SCALE, alpha_E: EXPONENT, beta: (1e-3, 5.0), N, E
):
  """I^-beta = (N_c / N)^alpha_N + (E_c / E)^alpha_E

  I intrinsic performance, N parameters, E environment interactions. N_c, E_c and beta share a
  scale that I fixes.
  """
  total = np.exp(alpha_N * (np.log(N_c) - np.log(N))) + np.exp(alpha_E * (np.log(E_c) - np.log(E)))
  return np.exp(-np.log(total) / beta)


# Test time.


def coverage(a: (1e-9, 1e4), b: (1e-3, 10.0), k):
  """-log pass@k = a k^-b

  Written as pass@k = exp(-a k^-b), which is the output.
  """
  return np.exp(-a * np.exp(-b * np.log(k)))


def beta_binomial(
  alpha: (1e-4, 1e4, (0.03, 0.1, 0.3, 1.0, 3.0)), beta: (1e-4, 1e6, (0.1, 0.3, 1, 3, 10, 100)), k
):
  """pass@k = 1 - B(alpha, beta + k) / B(alpha, beta)

  The chance to solve a problem once is beta-distributed over problems.
  """
  both = gammaln(beta + k) - gammaln(alpha + beta + k)
  return -np.expm1(both + gammaln(alpha + beta) - gammaln(beta))


def t2(
  E: FLOOR,
  A: SCALE,
  alpha: EXPONENT,
  B: SCALE,
  beta: EXPONENT,
  G: SCALE,
  gamma: EXPONENT,
  N,
  D,
  k,
):
  """-log pass@k = E + A / N^alpha + B / D^beta + G / k^gamma

  The output is -log pass@k: of the mean over problems, which is finite where a problem has none.
  """
  return (
    E
    + A * np.exp(-alpha * np.log(N))
    + B * np.exp(-beta * np.log(D))
    + G * np.exp(-gamma * np.log(k))
  )


LAWS = {
  law.name: law
  for law in (
    from_function(power, 'L', source='2001.08361, with the floor of 2010.14701'),
    from_function(chinchilla, 'L', source='2203.15556, approach 3; as refitted in 2404.10102'),
    from_function(kaplan_one, 'L', source='2001.08361', propose=proposals.kaplan_one),
    from_function(kaplan, 'L', source='2001.08361', propose=proposals.kaplan),
    from_function(data_constrained, 'L', source='2305.16264', propose=proposals.data_constrained),
    from_function(repeated, 'L', source='2305.16264, at one size'),
    from_function(overtraining, 'L', source='2403.08540'),
    from_function(downstream_error, 'Err', source='2403.08540'),
    from_function(bnsl, 'y', source='2210.14891'),
    from_function(bnsl2, 'y', source='2210.14891'),
    from_function(sft_multiplicative, 'L', source='2402.17193'),
    from_function(sft_additive, 'L', source='2402.17193'),
    from_function(rectified, 'L', source='2402.02314', from_zero=('D',)),
    from_function(log_linear, 'y', source='2308.01825, accuracy in log data'),
    from_function(sigmoid, 'R', source='ScaleRL, 2510.13786'),
    from_function(rising_power, 'R', source='2510.13786, what the sigmoid is compared with'),
    from_function(rl_size, 'L', source='2509.25300', propose=proposals.rl_size),
    from_function(gold_best_of_n, 'R', source='2210.10760', from_zero=('d',)),
    from_function(gold_rl, 'R', source='2210.10760', from_zero=('d',)),
    from_function(entropy, 'R', source='2505.22617', from_zero=('H',), signed=('H',)),
    from_function(intrinsic, 'I', source='2301.13442', propose=proposals.intrinsic),
    from_function(
      coverage, 'pass_at_k', source='2407.21787; 2502.17578', propose=proposals.coverage
    ),
    from_function(beta_binomial, 'pass_at_k', source='2502.17578'),
    from_function(t2, 'L', source='2604.01411'),
  )
}
