-- How healthy each pack is as last known, with its 90 % interval. Example: SELECT vehicle_id, soh, soh_low, soh_high FROM health_latest
SELECT health.*
FROM health
QUALIFY row_number() OVER (PARTITION BY pack_id ORDER BY t_ns DESC, session_id DESC) = 1
ORDER BY pack_id
