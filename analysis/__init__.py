"""Estimators, laws, frontier, figures and report over a workdir's records and rollout banks."""

from analysis.tables import counts, load, load_bank
from analysis.test_time import load_outcomes

__all__ = ['counts', 'load', 'load_bank', 'load_outcomes']
