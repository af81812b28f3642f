"""evalsuite: turn language models into text classifiers, and find out which way is best."""
