#!/bin/sh
# Redis servers for a test: redis.sh FOLDER
#
# Each line of standard input is the name of a configuration, NAME.conf in FOLDER: starts a server with it, which logs to
# NAME.log, and prints its process id. When standard input is closed it kills the servers and removes FOLDER: so nothing
# outlives the process at the other end of the pipe. It runs in a process group of its own.
set -eu
cd "$1"

while read -r name; do
  case $name in
    sentinel*) redis-server "$name.conf" --sentinel </dev/null >>"$name.log" 2>&1 & ;;
    *) redis-server "$name.conf" </dev/null >>"$name.log" 2>&1 & ;;
  esac
  echo $!
done

# Redis knows no SIGUSR1, and dies of it at once. A frozen one dies when it goes on.
trap : USR1
kill -USR1 -$$
kill -CONT -$$
wait
rm -rf "$1"
