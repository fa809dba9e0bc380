"""Times the reference's adapters; run by the reference's own interpreter.

The argument is how often the rows are taken. Each line of standard input is an object with a list of adapters and
the name of a file of rows, one JSON object a line; the answer to it is a line with the seconds of processor time that
all rows take, first to last.
"""

import gc
import json
import sys
import time
from collections import deque
from itertools import chain, repeat
from pathlib import Path

from dyff.schema.adapters import create_pipeline

times = int(sys.argv[1])
for line in sys.stdin:
    task = json.loads(line)
    rows = [json.loads(row) for row in Path(task["rows"]).read_text("utf-8").splitlines()]
    pipeline = create_pipeline(task["pipeline"])
    gc.collect()
    started = time.process_time()
    deque(pipeline(chain.from_iterable(repeat(rows, times))), maxlen=0)
    print(time.process_time() - started, flush=True)
