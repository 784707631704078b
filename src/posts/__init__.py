"""Posts of users, with likes and dislikes."""
