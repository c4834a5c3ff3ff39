#!/bin/sh
# Starts Redis as the master or as a replica of it. The configuration is made anew each time: Sentinel changes it later.
set -eu
umask 077
. "$(dirname "$0")/known-master.sh"
password=$(cat "$PASSWORD_FILE")
master=$(known_master)
cat > "$RUN/redis.conf" << END
port 6379
bind $BIND
dir $DATA
requirepass $password
masterauth $password
replica-announce-ip $SELF
appendonly yes
save ""
# A master that lost its way to the others takes no more writes: there may be a new one.
min-replicas-to-write 1
min-replicas-max-lag 3
# What was written must stay: a write that does not fit is refused, and the adapter says so.
maxmemory $MAX_MEMORY
maxmemory-policy noeviction
END
if [ "$master" != "$SELF" ]; then
    echo "replicaof $master 6379" >> "$RUN/redis.conf"
fi
echo "start-redis: the master is $master"
exec redis-server "$RUN/redis.conf"
