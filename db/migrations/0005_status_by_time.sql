-- A node's death marks its devices offline: the stream looks at what was heard of them since the node's last birth.
set local role headwater_owner;

create index node_status_at on node_status (group_id, node_id, at);
