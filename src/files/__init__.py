"""Files: resumable uploads, and their encrypted storage."""
