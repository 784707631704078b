"""How the cost of a request changes with stored items, connections, workers, requests served and MongoDB members."""
