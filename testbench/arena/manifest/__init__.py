"""What a user writes: the ArenaJob, the resources that it refers to, and their schema."""
