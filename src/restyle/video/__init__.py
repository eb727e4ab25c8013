"""Moving pictures: files in and out, stages that overlap, calm over time, cameras. Needs the extra ``video``."""

CALM = 0.85
"""How calm videos and cameras are unless asked otherwise, 0..1."""

STREAMS = 2
"""Frames of a file that are painted at the same time: one would wait whenever reading or encoding takes its core."""
