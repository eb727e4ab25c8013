"""From trained weights to files that run anywhere. Needs the extra ``train``."""
