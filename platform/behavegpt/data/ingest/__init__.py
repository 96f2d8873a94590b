"""Turn raw logs of any size into a dataset directory, out of core: the passes, one file each, in the order they run.

    scatter      events go to files by bucket of their user's pseudonym (pseudonyms, drops)
    values       the distinct texts of each column, in one order whatever the input's
    clean        a bucket at a time: in order, without duplicates and single events
    split        where train, val and test begin
    count        what the training rows hold: frequencies, users of each value, windows
    cut          windows of each split, in ids

`ingest.py` runs them, through an executor: threads of this process, or tasks on a Ray cluster.
"""
