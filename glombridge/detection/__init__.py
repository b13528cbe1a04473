"""From weights and a slide to one box per object: tiles to the model, boxes stitched per slide."""
