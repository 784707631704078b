#!/bin/sh
# Runs nginx in its container. Every few seconds, it reloads a changed configuration or certificate without dropping a
# connection, and rotates the access log by size.
set -eu
umask 077
configuration=/etc/sealpost/nginx.conf
certificate=/etc/sealpost/tls.pem
log=/var/log/sealpost/access.jsonl
max_bytes=${SEALPOST_LOG_MAX_BYTES:-10000000}
backups=${SEALPOST_LOG_BACKUPS:-5}

# Without TLS there is no certificate.
current() {
    cat "$configuration" "$certificate" 2>/dev/null | cksum
}

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

# `$$` is this shell, and nginx after exec.
watch() {
    while sleep 5; do
        found=$(current)
        if [ "$found" != "$loaded" ]; then
            loaded=$found
            kill -HUP "$$"
        fi
        if [ -e "$log" ] && [ "$(stat -c %s "$log")" -ge "$max_bytes" ]; then
            rotate
            kill -USR1 "$$"
        fi
    done
}

loaded=$(current)
watch &
exec nginx -e stderr -c "$configuration" -g 'daemon off;'
