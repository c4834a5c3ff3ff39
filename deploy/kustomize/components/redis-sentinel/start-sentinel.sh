#!/bin/sh
# Starts the sentinel. Its file lies with the data: it is what remembers the master when all pods were away.
set -eu
umask 077
. "$(dirname "$0")/known-master.sh"
password=$(cat "$PASSWORD_FILE")
if [ -s "$DATA/sentinel.conf" ]; then
    sed -i "s/^sentinel auth-pass qc .*/sentinel auth-pass qc $password/" "$DATA/sentinel.conf"
else
    master=$(known_master)
    # The id comes from the name: a server that lost its disk would else count as one more sentinel, and its old self as
    # one that never votes again.
    id=$(printf %s "$SELF" | sha1sum | cut -c 1-40)
    # A name that nobody knows yet ends the sentinel; the container is then started again.
    cat > "$DATA/sentinel.conf" << END
port 26379
bind $BIND
dir $RUN
protected-mode no
sentinel myid $id
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip $SELF
sentinel monitor qc $master 6379 2
sentinel auth-pass qc $password
sentinel down-after-milliseconds qc 5000
sentinel failover-timeout qc 10000
sentinel parallel-syncs qc 1
END
fi
exec redis-server "$DATA/sentinel.conf" --sentinel
