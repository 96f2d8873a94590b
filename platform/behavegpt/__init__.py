"""behavegpt: learn how a behaviour foundation model scales before you pay for the big run.

The data goes one way, and a folder is a stage (imports only point upstream):

    config, schema, errors   the records, column names and exit codes that every stage shares
    data     raw logs or the generator -> a dataset directory -> a stream of window batches
    model    batches -> logits over the next behaviour; counts of parameters and FLOPs
    loss     logits -> cross-entropy, the distributionally robust weights around it, or one of their static rivals
    train    one worker's loop: trunk, decay branches, checkpoints, validation, learning curves; export of models
    tasks    what a model is for: next behaviour, new behaviours, other domains, generation, prediction; metrics
    baselines  what it must beat: rules that count, and SASRec; one file a system
    study    a grid of cells swept by Ray Tune, remembered by a journal of immutable files
    bench    speed and memory, as ratios measured within one run

The `analysis` package reads a study's results table and fits the law; it needs neither torch nor ray.
"""

__version__ = "0.1.0"
