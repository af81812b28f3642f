"""evalsuite beside its peers: the same work on the same inputs, both sides in turn, with a check that both did it."""
