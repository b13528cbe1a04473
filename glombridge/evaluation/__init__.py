"""How good a detector is, per slide and per patient, after stitching: pure functions over arrays."""
