"""L0: the method in numpy and the standard library; pure functions, no framework."""
