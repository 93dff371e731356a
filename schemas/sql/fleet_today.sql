-- How the fleet did on the newest day that the lake holds, by pack model. Example: SELECT * FROM fleet_today
WITH today AS (
    SELECT *
    FROM windows
    WHERE start_ns >= (SELECT date_trunc('day', max(start_ns)) FROM windows)
),
odometer AS (
    SELECT model, sum(distance_km) AS distance_km
    FROM (SELECT model, pack_id, max(odo_km) - min(odo_km) AS distance_km FROM today GROUP BY ALL)
    GROUP BY ALL
),
faults AS (
    SELECT model, count(*) AS open_incidents, max(severity) AS worst_severity
    FROM incidents
    WHERE status <> 'clear'
    GROUP BY ALL
)
SELECT
    today.model,
    CAST(min(start_ns) AS DATE) AS day,
    count(DISTINCT vehicle_id) AS vehicles,
    CAST(sum(frames) AS BIGINT) AS frames,
    any_value(distance_km) AS distance_km,
    sum(energy_in_kwh) AS energy_in_kwh,
    sum(energy_out_kwh) AS energy_out_kwh,
    min(soc_end) AS soc_lowest,
    avg(soc_end) AS soc_mean,
    min(cell_v_min) AS cell_v_lowest,
    max(cell_v_max) AS cell_v_highest,
    max(temp_max_c) AS temp_highest_c,
    max(spread_max_v) AS spread_worst_v,
    coalesce(any_value(open_incidents), 0) AS open_incidents,
    any_value(worst_severity) AS worst_severity
FROM today
LEFT JOIN odometer USING (model)
LEFT JOIN faults USING (model)
GROUP BY today.model
ORDER BY today.model
