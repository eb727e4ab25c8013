"""Moving pictures: files in and out, stages that overlap, calm over time, cameras. Needs the extra ``video``."""

CALM = 0.85
"""How calm videos and cameras are unless asked otherwise, 0..1."""
