"""What is typed, a module for each subject."""
