"""The server by itself: `python -m tests.outside FOLDER [PORT]`, until it is ended.

It offers the three image datasets, the model lab/tiny and the dataset lab/reviews. FOLDER/environment.json holds the
variables for programs, FOLDER/requests.json how often what was asked for, rewritten every second.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from tests.outside import language_model, outside, published, serving, text_dataset


def main() -> None:
    folder, port = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if len(sys.argv) > 2 else 0
    with serving(port) as web:
        images = published()
        web.files |= images.files
        web.hub |= {"lab/tiny": language_model(), "datasets/lab/reviews": text_dataset()}
        environment = outside(web, folder, images)
        (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
        while True:
            (folder / "requests.json").write_text(json.dumps(web.requests), encoding="utf-8")
            time.sleep(1)


if __name__ == "__main__":
    main()
