"""What is read off a model: logits, hidden states, and what is made of them."""
