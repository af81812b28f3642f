"""evalsuite's side of every comparison."""
