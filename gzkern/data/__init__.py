"""Galaxy images and their labels: reading, checking, packing, splitting and drawing them."""
