"""Moving pictures: files in and out, stages that overlap, calm over time, cameras. Needs the extra ``video``."""
