"""What SFT and GRPO share: tokenizer, model, packing, log-probs, the DeepSpeed engine, resume points, launching."""
