"""
Every key and channel in Redis, in one place.

| name | type | what it holds |
| --- | --- | --- |
| `qc:session:<agent_id>` | hash | a session, sealed if it is ours; others may write it (`docs/operating.md`) |
| `qc:log:<agent_id>` | hash | the head of an inspector's log: what events and receipts add up to, how the session is |
| `qc:events:<agent_id>` | stream | the events and gaps of the log, as `<position>-0` |
| `qc:orders:<agent_id>` | hash | how to sign in again, sealed, and how far a recovery has come |
| `qc:monitored:<agent_id>` | set | the agents whom an inspector monitors |
| `qc:recovering` | sorted set | who is to be signed in again or given its monitoring back, by when in ms |
| `qc:seal:<name>` | string | a replica has this key of QC_SEAL_KEYS; goes minutes after the last one |
| `qc:keys:<replica>` | string | the names of the keys that a replica has; an older release cannot read what is sealed |
| `qc:sealing` | string | there while a live replica seals: then all do that have keys |
| `qc:unsealed` | string | a replica that reads plain records only was there in the last hour: nobody begins to seal |
| `qc:split` | string | there while live replicas have different keys: there are no fair shares then |
| `qc:busy:<agent_id>` | string | a sign-in or sign-out is under way on some replica |
| `qc:command:<agent_id>:<request_id>` | hash | a command that may be repeated, for 10 minutes |
| `qc:leases` | sorted set | who is polled for, by the lease's end in ms; 0 free, 1 revoked, 2 replaced, +inf parked |
| `qc:holders` | hash | who holds a lease, as `<replica>:<token>` |
| `qc:replicas` | sorted set | live replicas, by the time in ms when they count as gone |
| `qc:parked` | hash | why a lease is not to be polled: a digest of the session as it was then, or `key:<name>` |
| `qc:departing` | sorted set | replicas that drain, likewise |
| `qc:fence` | integer | the last token that was given |
| `qc:store` | string | a random name of this data: another one means that Redis lost everything |
| `qc:beat` | string | when a replica was last seen, in ms |
| `qc:relearning` | string | there while replicas enter again what a Redis that lost everything should know |
| `qc:respite` | string | there while expired leases are left to their holders |
| `qc:claims:<replica>` | string | the last claims of a replica, should it not have heard of them |
| `qc:scanner` | string | the replica that looks for sessions which other systems wrote |
| `qc:alive` | string | written once a second by each replica, to see whether the store takes writes |
| `qc:check:<random>` | string | written by `qc-adapter check --connect`, for a second |
| `qc:notice:<agent_id>` | channel | something changed for an inspector |
| `qc:wake` | channel | a lease is free |
| `qc:replica:<replica>` | channel | a lease of that replica was revoked |
"""

from typing import Final

SESSION: Final = "qc:session:"
LOG: Final = "qc:log:"
EVENTS: Final = "qc:events:"
ORDERS: Final = "qc:orders:"
MONITORED: Final = "qc:monitored:"
RECOVERING: Final = "qc:recovering"
SEAL: Final = "qc:seal:"
RING: Final = "qc:keys:"
SEALING: Final = "qc:sealing"
UNSEALED: Final = "qc:unsealed"
SPLIT: Final = "qc:split"
BUSY: Final = "qc:busy:"
COMMAND: Final = "qc:command:"
LEASES: Final = "qc:leases"
HOLDERS: Final = "qc:holders"
REPLICAS: Final = "qc:replicas"
DEPARTING: Final = "qc:departing"
PARKED: Final = "qc:parked"
FENCE: Final = "qc:fence"
STORE: Final = "qc:store"
BEAT: Final = "qc:beat"
RELEARNING: Final = "qc:relearning"
RESPITE: Final = "qc:respite"
CLAIMS: Final = "qc:claims:"
SCANNER: Final = "qc:scanner"
ALIVE: Final = "qc:alive"
CHECK: Final = "qc:check:"
NOTICE: Final = "qc:notice:"
WAKE: Final = "qc:wake"
REPLICA: Final = "qc:replica:"
