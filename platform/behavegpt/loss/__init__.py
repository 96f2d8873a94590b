"""Logits and targets become per-target cross-entropies, and the robust weights that multiply them."""
