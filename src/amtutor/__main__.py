"""`python -m amtutor` is `amtutor`; `torchrun -m amtutor train ...` starts several of it."""

import sys

from amtutor.cli import main

sys.exit(main())
