"""Long-term generation: N future behaviours of each user, sampled one after the other, each the next one's input.

histories.py   what a user did before, and what the user did then
sampling.py    random numbers by (seed, user, position), and a behaviour drawn from logits
tables.py      what followed what in training: the clock, and draws given a value
inputs.py      the rules that give a drawn behaviour its weekday, slot, event and location
story.py       the events of some users so far, which grow
voices.py      who says what comes next: a model with its cache, or any system
oracle.py      the law of a generated log, as a voice
loop.py        the loop, and the rival that repeats the user's own history
figures.py     the metrics of the paper's Table 4, beside those of real users
report.py      the terminal's table, generate.json, report.md
parts.py       the files of a run that may be killed at any time
"""
