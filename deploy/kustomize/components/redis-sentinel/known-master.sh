# Prints who the master is: as the other sentinels say, else as the own one noted, else the first server.
# Read by the start scripts. SELF is this server's name, PEERS are the names of all.
known_master() {
    for peer in $PEERS; do
        if [ "$peer" != "$SELF" ]; then
            said=$(timeout 2 redis-cli -h "$peer" -p 26379 sentinel get-master-addr-by-name qc 2> /dev/null | head -n 1)
            # An error comes as a line of words; a name is one word with a dot.
            case "$said" in
                *" "* | "") ;;
                *.*) echo "$said" && return ;;
            esac
        fi
    done
    noted=$(sed -n 's/^sentinel monitor qc \([^ ]*\) .*/\1/p' "$DATA/sentinel.conf" 2> /dev/null || true)
    echo "${noted:-${PEERS%% *}}"
}
