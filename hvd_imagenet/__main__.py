"""`python -m hvd_imagenet` is the same program as `hvd-imagenet`."""

import sys

from hvd_imagenet.cli import main

if __name__ == "__main__":
    sys.exit(main())
