"""Faces: found, brought upright, covered and told apart."""
