"""Difficulty of prompts: the share of correct samples by the model that is to be trained."""
