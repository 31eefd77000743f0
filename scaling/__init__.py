"""Postscale: what post-training buys, by compute. See docs/how-it-works.md."""
