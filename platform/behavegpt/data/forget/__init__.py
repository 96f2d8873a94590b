"""Forget users: their windows leave a dataset, in one step that a kill cannot leave half done.

users      ids and the key file -> pseudonyms; no message repeats an id
tally      what a dataset's counts and vocabularies owe to the users who leave
leftovers  what a killed run left behind
rewrite    the step itself
"""

from behavegpt.data.forget.rewrite import Search, find_unknown, forget, search_users
from behavegpt.data.forget.users import read_ids, read_pseudonyms

__all__ = ["Search", "find_unknown", "forget", "read_ids", "read_pseudonyms", "search_users"]
