"""LoRA adapters: put on a model, trained, sized, saved, and added to the base."""
