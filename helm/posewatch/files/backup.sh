#!/bin/sh
# Dump the label store into FOLDER and forget dumps older than KEEP_DAYS: backup.sh FOLDER KEEP_DAYS
# The server is told by PGHOST, PGUSER, PGPASSWORD and PGDATABASE.
set -eu
folder=$1 keep=$2
target=$folder/labels-$(date -u +%Y%m%dT%H%M%SZ).dump
rm -f "$folder"/.half-*   # of a run that was killed
trap 'rm -f "$folder/.half-$$"' EXIT
pg_dump --format=custom --compress=6 --file="$folder/.half-$$"
pg_restore --list "$folder/.half-$$" > /dev/null # a dump that cannot be read is none
mv "$folder/.half-$$" "$target"
find "$folder" -name 'labels-*.dump' -mtime "+$keep" -exec rm -f {} +
echo "posewatch: $(basename "$target"), $(wc -c < "$target") bytes; $(find "$folder" -name 'labels-*.dump' | wc -l) dumps kept"
