"""Top-N recommendation with autoencoders: train, evaluate, register, promote and score in batch."""
