"""Training from a recipe: the loop, and the parts it is made of."""
