"""Networks, losses, training and images: everything Anamorph knows without HTTP."""
