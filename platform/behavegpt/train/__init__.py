"""One worker's loop over a stream of batches: a trunk, its decay branches, checkpoints, validation, learning curves."""
