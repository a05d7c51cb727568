"""``python -m distillcalc`` is the command line."""

from distillcalc.cli import main

main()
