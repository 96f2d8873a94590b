"""What the users of a log or a dataset will do next, as a trained model sees it: one row a user, in bounded memory.

model        what jobs/export.py wrote, with its vocabulary
histories    tables of users with their last events in ids, and where they come from: dataset, log
predictor    histories -> behaviours and probabilities, or embeddings
pool         the predictor on threads of this process, or as a pool of actors of Ray Data
output       the files
run          all of it
"""
