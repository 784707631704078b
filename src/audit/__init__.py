"""The audit: who signed in, who may do what, and what became of an item, for operators."""
