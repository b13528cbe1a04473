"""glombridge: QuPath annotations to a YOLO glomerulus detector and back.

The road, from left to right; no room imports one to its right::

    objects -> qupath, ledger -> slides -> tiles -> training -> detection -> evaluation
            -> sync -> report -> demo -> cli
"""

__version__ = "0.1.0"
