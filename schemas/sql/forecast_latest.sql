-- The life that is left to each pack as last told, with its 90 % interval and, at the pack's own pace, dates. Example: SELECT vehicle_id, left_cycles, ends_at, reason FROM forecast_latest
SELECT
    * EXCLUDE (at_cycles, soh_at, soh_at_low, soh_at_high),
    t_ns + to_hours((24 * left_cycles / nullif(cycles_per_day, 0))::BIGINT) AS ends_at,
    t_ns + to_hours((24 * left_low / nullif(cycles_per_day, 0))::BIGINT) AS ends_at_earliest,
    t_ns + to_hours((24 * left_high / nullif(cycles_per_day, 0))::BIGINT) AS ends_at_latest
FROM forecasts
QUALIFY row_number() OVER (PARTITION BY pack_id ORDER BY t_ns DESC, session_id DESC) = 1
ORDER BY pack_id
