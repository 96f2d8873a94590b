"""Adaptation: what a pretrained model is worth for a behaviour that it has never met, or in another domain."""
