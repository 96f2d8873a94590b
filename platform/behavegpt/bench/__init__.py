"""How fast the platform is, as ratios to the simplest thing that does the same work, measured in one run."""
