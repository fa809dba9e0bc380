"""Times the reference's adapters; run by the reference's own interpreter.

The arguments are a file of rows, one JSON object a line, and how often they are taken. Each line of standard input
is a list of adapters; the answer to it is a line with the seconds of processor time that all rows take, first to
last.
"""

import gc
import json
import sys
import time
from collections import deque
from itertools import chain, repeat
from pathlib import Path

from dyff.schema.adapters import create_pipeline

rows = [json.loads(line) for line in Path(sys.argv[1]).read_text("utf-8").splitlines()]
times = int(sys.argv[2])
for line in sys.stdin:
    pipeline = create_pipeline(json.loads(line))
    gc.collect()
    started = time.process_time()
    deque(pipeline(chain.from_iterable(repeat(rows, times))), maxlen=0)
    print(time.process_time() - started, flush=True)
