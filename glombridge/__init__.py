"""glombridge: QuPath annotations to a YOLO glomerulus detector and back.

What may be used from Python is listed in :mod:`glombridge.api`; it is not repeated here, because some of
its functions (``report``) are called like the rooms behind them. The road through the rooms, from left to
right; none imports one to its right::

    objects -> schemes -> settings, geojson_codec, frames -> qupath -> ledger -> slides -> tiles
            -> training -> detection -> evaluation -> sync -> review -> report -> scale -> steps
            -> demo -> api -> cli
"""

__version__ = "0.1.0"
