"""Out of the house: predictions on new text, exported models, the hub."""
