"""Making models: picture folders as endless training pairs, and the training loop. Needs the extra ``train``."""
