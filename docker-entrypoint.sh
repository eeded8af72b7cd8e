#!/bin/sh
# `setup.py URL` and `testbench/setup.py URL` run a phase, `arena …` an ArenaJob; anything else is run as it stands.
# Always by exec: Python is then process 1 and gets the SIGTERM with which a container is stopped.
case "$1" in
  testbench/*.py) exec python3 "/app/$@" ;;
  /*.py) exec python3 "$@" ;;
  *.py) exec python3 "/app/testbench/$@" ;;
  arena) shift; exec python3 -m testbench.arena.cli "$@" ;;
  *) exec "$@" ;;
esac
