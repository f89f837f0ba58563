"""Durable training jobs: submitted, worked on, watched."""
