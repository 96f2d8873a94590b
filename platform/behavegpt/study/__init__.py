"""A study: a grid of cells on one dataset, planned by rules, swept by Ray Tune, remembered by immutable files."""
