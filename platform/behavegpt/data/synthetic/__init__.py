"""Generated behaviour logs whose entropy floor is known exactly: a configuration becomes a dataset, or a raw log."""
