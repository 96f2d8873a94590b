"""behavegpt: learn how a behaviour foundation model scales before you pay for the big run.

The data goes one way, and a folder is a stage (imports only point upstream):

    config, schema, errors   the records, column names and exit codes that every stage shares
    data     raw logs or the generator -> a dataset directory -> a stream of window batches
    model    batches -> logits over the next behaviour; counts of parameters and FLOPs
    loss     logits -> cross-entropy, or the distributionally robust weights around it
    train    one worker's loop: trunk, decay branches, checkpoints, validation, learning curves
    study    a grid of cells swept by Ray Tune, remembered by a journal of immutable files

The `analysis` package reads a study's results table and fits the law; it needs neither torch nor ray.
"""

__version__ = "0.1.0"
