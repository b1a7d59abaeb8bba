"""Supervised fine-tuning: the final responses of dialogs, learned token by token (AM section 3)."""
