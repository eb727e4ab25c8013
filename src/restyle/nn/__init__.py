"""The mathematics: statistics of feature maps, the two networks, the losses. Needs torch."""
