"""What a user can ask for beside the network: kept colours, masks, large strokes. Arithmetic on finished pictures."""
