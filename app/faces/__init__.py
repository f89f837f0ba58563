"""Faces found, made into others, sealed and brought back."""
