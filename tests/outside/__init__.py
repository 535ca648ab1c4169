"""What lies outside, on this machine: a web server with small files of real formats, and what makes programs use it.

    with serving() as web:
        images = published()                            # MNIST, SVHN and CIFAR-10
        web.files |= images.files
        web.hub["lab/tiny"] = language_model()          # a repository of the Hub: names → bytes
        web.hub["datasets/lab/reviews"] = text_dataset()
        environment = outside(web, tmp_path, images)    # for a new interpreter (tests.programs.run_new), or for a job

`environment` points huggingface_hub at the server, and gives torchvision the addresses and digests of the small files:
its PYTHONPATH has a sitecustomize that does so when torchvision is imported. Jobs get these variables from what sbatch
was called with, or from `cluster.environment.NAME=VALUE`; the scripts of jobs put the code before PYTHONPATH and keep
the rest of it. `python -m tests.outside FOLDER` is the same as a program of its own.

`use_here` does the same to the process of a test.

`web.requests` and `web.sent` count what was asked for. `web.cut`, `web.garbage`, `web.gated`, `web.sizes`,
`web.ranges`, `web.slow_s` and `web.complete` make it behave as servers sometimes do.
"""

from tests.outside.models import language_model, text_dataset
from tests.outside.published import Published, published
from tests.outside.use import outside, use_here
from tests.outside.web import TOKEN, Web, serving

__all__ = ["TOKEN", "Published", "Web", "language_model", "outside", "published", "serving", "text_dataset", "use_here"]
