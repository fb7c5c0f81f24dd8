#!/bin/sh
# Builds whenever a file below a directory has changed, and publishes how that went: build-watch.sh DIR COMMAND [ARGUMENT ...]
set -e
cd "$1"
shift
stamp=$(mktemp)
trap 'rm -f "$stamp"' EXIT
trap exit INT TERM
while :; do
	touch "$stamp" # now, so that what changes during the build is built again
	ipcd pub build.started command="$*" >/dev/null
	if output=$("$@" 2>&1); then
		ipcd pub build.done command="$*" >/dev/null
	else
		ipcd pub build.failed code:=$? output="$(printf %s "$output" | tail -c 65536)" >/dev/null
	fi
	until find . -type f -newer "$stamp" | grep -q .; do sleep 1; done
done
