"""One compiler per engine, side by side."""
