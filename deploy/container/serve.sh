#!/bin/sh
# Start a run, or go on with it where it was; write its report when it is complete.
#
# usage: fedpsyau-serve [--stay] FOLDER NAME [OPTION of fedpsyau-server]...
#
# The run's folder is FOLDER/NAME. Options count when the run is started; a run that goes on keeps
# its own. With --stay this does not end with the run, so that a supervisor that restarts whatever
# ends does not train the same run again.
set -eu

stay=no
if [ "$1" = --stay ]; then
    stay=yes
    shift
fi
folder=$1
name=$2
shift 2
run=$folder/$name

status() {
    python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["status"])' "$run/state.json"
}

if [ ! -e "$run/state.json" ]; then
    fedpsyau-server --runs "$folder" --run "$name" "$@"
elif [ "$(status)" != completed ]; then
    fedpsyau-server --resume "$run"
fi
fedpsyau report "$run"
if [ "$stay" = yes ]; then
    echo "The run $name is complete; nothing more is done until another one is started."
    exec sleep infinity
fi
