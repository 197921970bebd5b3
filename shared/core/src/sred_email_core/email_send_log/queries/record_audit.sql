-- Record what an operator does, in the transaction that does it; a further part of the same call adds to its count.
--   $1 call_id uuid   $2 actor text   $3 peer text   $4 action text   $5 target text   $6 detail text   $7 count int
INSERT INTO email_audit AS a (call_id, actor, peer, action, target, detail, count)
VALUES ($1::uuid, $2, $3, $4, $5, $6, $7::int)
ON CONFLICT (call_id) DO UPDATE SET count = a.count + excluded.count
