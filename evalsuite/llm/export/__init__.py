"""A trained model for others: files, and the code that loads them."""
