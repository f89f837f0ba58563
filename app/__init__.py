"""The service: HTTP, processes and the command line around `models`."""
