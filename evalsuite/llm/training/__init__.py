"""The training loop, what it keeps, and what it takes."""
