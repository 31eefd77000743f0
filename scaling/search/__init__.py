"""Strategies that spend compute at test time by generating: trees, revisions, forced thinking."""
