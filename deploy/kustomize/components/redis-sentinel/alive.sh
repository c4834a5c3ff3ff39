#!/bin/sh
# alive.sh PORT [loading|synced]: ends with 0 when the server there answers. "loading" lets one pass that still loads
# its data; "synced" no replica that has not got its master's: the next server must not be taken away before.
# It asks HERE and not the server's name: a minute without DNS would else kill all of them.
if [ "$1" = 6379 ]; then
    # A sentinel has no password.
    REDISCLI_AUTH=$(cat "$PASSWORD_FILE")
    export REDISCLI_AUTH
fi
said=$(redis-cli -h "$HERE" -p "$1" ping 2>&1)
if [ "$said" = PONG ] && [ "${2:-}" = synced ]; then
    case "$(redis-cli -h "$HERE" -p "$1" info replication 2>&1)" in
        *role:master* | *master_link_status:up*) ;;
        *) said="this replica is not in step with its master" ;;
    esac
fi
case "$said" in
    PONG) exit 0 ;;
    LOADING* | MASTERDOWN* | BUSY*) [ "${2:-}" = loading ] && exit 0 ;;
esac
echo "$said"
exit 1
