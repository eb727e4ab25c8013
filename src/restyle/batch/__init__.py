"""Any number of pictures: find them, name what comes of them, paint them so that the network never waits.

>>> jobs = [Job(photo, Path("out") / photo.name, style) for photo in find_pictures(Path("photos"))[0]]  # doctest: +SKIP
>>> for result in run(jobs, stylizer):  # doctest: +SKIP
...     print(result.job.output, result.error or result.size)
"""

from restyle.batch.folders import check_pattern, find_pictures, name_output, watch_folder
from restyle.batch.pipeline import Job, Result, estimate_memory, output_size, run

__all__ = [
    "Job",
    "Result",
    "check_pattern",
    "estimate_memory",
    "find_pictures",
    "name_output",
    "output_size",
    "run",
    "watch_folder",
]
