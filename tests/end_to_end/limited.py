"""An experiment in a process that may not take more than so many megabytes beyond those that its libraries take.

python -m tests.end_to_end.limited MEGABYTES key=value …
"""

from __future__ import annotations

import re
import resource
import sys
from pathlib import Path

import peft  # noqa: F401  (before the limit)
import torch.utils.tensorboard  # noqa: F401
import transformers.models.llama.modeling_llama  # noqa: F401

from neurogen.run import main

if __name__ == "__main__":
    (taken_kb,) = re.findall(r"VmData:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))
    limit = 1024 * int(taken_kb) + 2**20 * int(sys.argv.pop(1))
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    main()
