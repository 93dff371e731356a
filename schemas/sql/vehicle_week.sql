-- The last seven days that each vehicle was heard of, a row a day. Example: SELECT * FROM vehicle_week WHERE vehicle_id = 'V1'
WITH days AS (
    SELECT
        vehicle_id,
        CAST(start_ns AS DATE) AS day,
        any_value(model) AS model,
        count(*) AS windows,
        CAST(sum(frames) AS BIGINT) AS frames,
        count(*) FILTER (mode = 1) AS driving_windows,
        count(*) FILTER (mode = 2) AS charging_windows,
        max(odo_km) - min(odo_km) AS distance_km,
        sum(energy_in_kwh) AS energy_in_kwh,
        sum(energy_out_kwh) AS energy_out_kwh,
        min(soc_end) AS soc_lowest,
        max(soc_end) AS soc_highest,
        arg_max(soc_end, start_ns) AS soc_last,
        min(cell_v_min) AS cell_v_lowest,
        max(cell_v_max) AS cell_v_highest,
        max(spread_max_v) AS spread_worst_v,
        min(temp_min_c) AS temp_lowest_c,
        max(temp_max_c) AS temp_highest_c
    FROM windows
    GROUP BY vehicle_id, CAST(start_ns AS DATE)
),
faults AS (
    SELECT vehicle_id, CAST(opened_ns AS DATE) AS day, count(*) AS incidents_opened
    FROM incidents
    GROUP BY ALL
)
SELECT days.*, coalesce(incidents_opened, 0) AS incidents_opened
FROM days
LEFT JOIN faults USING (vehicle_id, day)
QUALIFY row_number() OVER (PARTITION BY vehicle_id ORDER BY day DESC) <= 7
ORDER BY vehicle_id, day
