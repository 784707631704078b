"""The HTTP layer: parsing of requests, and rendering of responses."""
