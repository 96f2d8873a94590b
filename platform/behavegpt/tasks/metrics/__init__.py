"""Metrics as pure functions of arrays: ranks, classes, calibration, sequences; and intervals over users for them all.

Everything is computed from what `ranking` keeps of a target, so no matrix of scores outlives its batch.
"""
