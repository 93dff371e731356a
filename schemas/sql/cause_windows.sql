-- The windows that speak for each incident's causes, from when its evidence began. Example: SELECT * FROM cause_windows WHERE vehicle_id = 'V1'
SELECT
    i.id AS incident,
    i.vehicle_id,
    i.pack_id,
    i.kind,
    i.subject,
    i.cause,
    i.likelihood,
    i.causes,
    w.* EXCLUDE (vehicle_id, pack_id, model)
FROM incidents AS i
JOIN windows AS w
    ON w.pack_id = i.pack_id
    AND w.end_ns > i.since_ns
    AND w.start_ns <= i.updated_ns
ORDER BY i.opened_ns, i.id, w.start_ns
