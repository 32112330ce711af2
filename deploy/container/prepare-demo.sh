#!/bin/sh
# Prepare what docker-compose.yml shows: a synthetic site's data and kit in every volume below /sites,
# the coordinator's folder in /federation. What is there already stays as it is.
#
# usage: fedpsyau-prepare-demo UID GID SCALE
#
# Starts as root to give the volumes to UID:GID, under which everything else happens.
set -eu

if [ "$(id -u)" = 0 ]; then
    owner=$(stat -c %u /results)
    if [ "$owner" != 0 ] && [ "$owner" != "$1" ]; then
        echo "error: the results folder belongs to user $owner, and the containers run as user $1." \
            "Put FEDPSYAU_UID=$owner into the file .env, beside docker-compose.yml." >&2
        exit 1
    fi
    chown "$1:$2" /results /federation /sites/* /states/*
    exec setpriv --reuid "$1" --regid "$2" --clear-groups "$0" "$1" "$2" "$3"
fi

sites=$(ls /sites)
umask 077

if [ ! -e /federation/kit ]; then
    fedpsyau-server provision --sites "$(echo "$sites" | paste -sd, -)" --host server --out /federation/kit
fi
for site in $sites; do
    archive=/federation/kit/kits/$site.tar.gz
    if [ -e "$archive" ]; then
        mv "$archive" "/sites/$site/kit.tar.gz"
    fi
done

missing=no
for site in $sites; do
    [ -e "/sites/$site/data/$site" ] || missing=yes
done
if [ $missing = yes ]; then
    fedpsyau data synth --out /tmp/twin --scale "$3"
    for site in $sites; do
        partial=/sites/$site/.data.partial
        rm -rf "$partial" "/sites/$site/data"
        mkdir "$partial"
        cp -r "/tmp/twin/$site" "$partial/"
        mv "$partial" "/sites/$site/data"
    done
fi
echo "Ready: the kits, and the synthetic data of $(echo "$sites" | wc -l) sites."
