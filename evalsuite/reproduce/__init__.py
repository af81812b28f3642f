"""The published experiments as data and sweeps, and how far our runs are from them."""
