"""Answers of a causal language model: scored, decoded, and trained for."""
