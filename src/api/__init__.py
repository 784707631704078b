"""The edge: what a request is parsed from and what an answer is made of."""
