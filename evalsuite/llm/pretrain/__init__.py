"""The small language model that ships with the package, trained from scratch."""
