import sys

from openegress.cli import main

sys.exit(main())
