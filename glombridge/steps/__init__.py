"""The steps of the loop, one function each; the command line is a thin wrapper over them."""
