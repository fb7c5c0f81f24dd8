#!/bin/sh
# Reacts to what build-watch.sh publishes, for as long as there is a daemon; here it says what to do
ipcd sub 'build.>' | while read -r event; do
	case $event in
	*'"topic":"build.done"'*) echo "it builds: ipcd worker reload app" ;;
	*'"topic":"build.failed"'*) echo "it is broken: $event" ;;
	esac
done
