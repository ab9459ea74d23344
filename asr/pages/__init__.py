"""Pages in one HTML file each: what a run has reached, and how two systems differ."""
