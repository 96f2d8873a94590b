"""Raw behaviour logs, in whatever form a user has them, become blocks of events: spec.py, plan.py, then blocks.py."""
