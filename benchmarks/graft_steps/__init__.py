"""Steps of the graft benchmark, a module for each, with no imports but its own, since these count as its memory."""
