"""The groups of `anamorph`'s commands, one module each."""
