"""Slide objects as the GeoJSON that QuPath writes and reads, and back."""

from .reading import LoadedObjects, load_objects
from .writing import dump_geojson, dump_objects, write_geojson

__all__ = ["LoadedObjects", "dump_geojson", "dump_objects", "load_objects", "write_geojson"]
