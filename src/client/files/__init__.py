"""Files of secrets: what is shared, uploaded, downloaded and saved."""
