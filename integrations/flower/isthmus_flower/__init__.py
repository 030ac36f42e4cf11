"""Federated recommenders of Isthmus as a Flower app: the same rounds, carried by Flower."""
