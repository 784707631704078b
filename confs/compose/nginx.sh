#!/bin/sh
# nginx in its container. Beside it, every few seconds: a changed configuration is taken up without dropping a connection,
# and the access log is rotated by size.
set -eu
umask 077
configuration=/etc/sealpost/nginx.conf
log=/var/log/sealpost/access.jsonl
max_bytes=${SEALPOST_LOG_MAX_BYTES:-10000000}
backups=${SEALPOST_LOG_BACKUPS:-5}

rotate() {
    number=$backups
    while [ "$number" -gt 1 ]; do
        if [ -e "$log.$((number - 1))" ]; then
            mv -f "$log.$((number - 1))" "$log.$number"
        fi
        number=$((number - 1))
    done
    if [ "$backups" -gt 0 ]; then
        mv -f "$log" "$log.1"
    else
        rm -f "$log"
    fi
}

# `$$` is this shell, and nginx once it has taken the shell's place.
watch() {
    while sleep 5; do
        current=$(cksum <"$configuration")
        if [ "$current" != "$loaded" ]; then
            loaded=$current
            kill -HUP "$$"
        fi
        if [ -e "$log" ] && [ "$(stat -c %s "$log")" -ge "$max_bytes" ]; then
            rotate
            kill -USR1 "$$"
        fi
    done
}

loaded=$(cksum <"$configuration")
watch &
exec nginx -e stderr -c "$configuration" -g 'daemon off;'
