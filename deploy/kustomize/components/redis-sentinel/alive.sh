#!/bin/sh
# alive.sh PORT [busy]: ends with 0 when the server there answers; "busy" lets one pass that still loads its data.
said=$(REDISCLI_AUTH=$(cat "$PASSWORD_FILE") redis-cli --no-auth-warning -h "$SELF" -p "$1" ping 2>&1)
case "$said" in
    PONG) exit 0 ;;
    LOADING* | MASTERDOWN* | BUSY*) [ "${2:-}" = busy ] ;;
    # A sentinel has no password, and says so behind its answer.
    *PONG) exit 0 ;;
    *) echo "$said" && exit 1 ;;
esac
