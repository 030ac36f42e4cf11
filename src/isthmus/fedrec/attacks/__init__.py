"""Attacks on federated recommenders: by the server on clients, by clients on the recommender."""
