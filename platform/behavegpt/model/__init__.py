"""Batches of windows become logits over the next behaviour; parameters and FLOPs are counted in closed form.

`config` and `sizing` import no torch: whoever plans a study or reads one needs only them.
"""
