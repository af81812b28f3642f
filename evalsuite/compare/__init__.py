"""Which differences between finished runs are certified, and what each system costs."""
