"""Pages, each in one HTML file: what a run achieved, and how two systems differ."""
