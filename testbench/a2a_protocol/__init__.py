"""What agents say over A2A: their card, their replies, and what goes wrong. `schema/a2a_client.py` stands on it."""
