"""Logits and targets become per-target losses: cross-entropies, robust weights that multiply them, or static rivals."""
