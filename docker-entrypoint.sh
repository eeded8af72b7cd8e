#!/bin/sh
# `setup.py URL`, `testbench/setup.py URL` and `setup URL` run a phase; anything that is no phase is run as it stands.
# Always by exec: Python is then process 1 and gets the SIGTERM with which a container is stopped.
case "$1" in
  testbench/*.py) exec python3 "/app/$@" ;;
  /*.py) exec python3 "$@" ;;
  *.py) exec python3 "/app/testbench/$@" ;;
  setup|run|evaluate|publish|visualize|gate|merge|pipeline|demo|arena|operator) exec testbench "$@" ;;
  *) exec "$@" ;;
esac
