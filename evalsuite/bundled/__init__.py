"""The small language model that ships with the package."""
