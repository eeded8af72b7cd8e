#!/bin/sh
# `setup.py URL` and `testbench/setup.py URL` run a phase; anything else is run as it stands.
case "$1" in
  testbench/*.py) exec python3 "/app/$@" ;;
  *.py) exec python3 "/app/testbench/$@" ;;
  *) exec "$@" ;;
esac
