"""Wrong implementations, made by changing one thing in a right one: what the suite has to notice."""
