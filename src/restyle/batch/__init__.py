"""Any number of pictures: find them, name what comes of them, paint them so that the network never waits.

>>> photos, out = Path("photos"), Path("out")  # doctest: +SKIP
>>> jobs = [Job(path, out / path.relative_to(photos), style) for path in find_pictures(photos)[0]]  # doctest: +SKIP
>>> for result in run(jobs, stylizer):  # doctest: +SKIP
...     print(result.job.output, result.error or result.size)
"""

from restyle.batch.folders import check_pattern, find_pictures, name_output, watch_folder
from restyle.batch.pipeline import Job, Result, estimate_memory, run
from restyle.batch.square import square_size

__all__ = [
    "Job",
    "Result",
    "check_pattern",
    "estimate_memory",
    "find_pictures",
    "name_output",
    "run",
    "square_size",
    "watch_folder",
]
