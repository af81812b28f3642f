"""Where a model comes from, and how it gets into memory."""
