"""Environments of several turns: a policy talks with a program, rewarded for where it gets."""
