"""Raw logs, or the generator, become a dataset directory; the directory becomes a stream of window batches."""
