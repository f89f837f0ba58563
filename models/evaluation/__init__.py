"""How good a model is: the formulas, what they are applied to, and the pages that tell."""
