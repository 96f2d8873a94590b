"""Does a robust loss help the tail? Models that differ by their loss alone, on equal targets: the paper's Fig. 6a."""
