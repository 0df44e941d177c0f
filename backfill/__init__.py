"""Running Beam: training sets and uploads of closed tiles."""
