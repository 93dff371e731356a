-- What is last known of each pack: SOC, capacity, and per cell. Example: SELECT vehicle_id, soc, capacity_ah FROM states_latest
SELECT states.*
FROM states
SEMI JOIN (SELECT pack_hash, max(t_ns) AS t_ns FROM states GROUP BY pack_hash) AS newest
    ON states.pack_hash = newest.pack_hash AND states.t_ns = newest.t_ns
ORDER BY pack_id
