#!/bin/sh
# alive.sh PORT [busy]: ends with 0 when the server there answers; "busy" lets one pass that still loads its data.
# A sentinel has no password.
if [ "$1" = 6379 ]; then
    REDISCLI_AUTH=$(cat "$PASSWORD_FILE")
    export REDISCLI_AUTH
fi
said=$(redis-cli -h "$SELF" -p "$1" ping 2>&1)
case "$said" in
    PONG) exit 0 ;;
    LOADING* | MASTERDOWN* | BUSY*) [ "${2:-}" = busy ] ;;
    *) echo "$said" && exit 1 ;;
esac
