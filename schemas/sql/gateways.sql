-- When each vehicle was last heard of, with which software, and what its gateway lost, refused or tripped on. Example: SELECT vehicle_id, silent_s, gateway_version, outdated FROM gateways ORDER BY silent_s DESC
WITH stamped AS (
    SELECT
        *,
        -- the broker's clock where it stamps: a gateway's own may be wrong
        CASE WHEN epoch_ns(recv_ns) > 0 THEN recv_ns ELSE t_ns END AS at_ns
    FROM gateway_reports
),
said AS (
    SELECT
        vehicle_id,
        max(at_ns) AS reported_ns,
        arg_max(gateway_version, at_ns) FILTER (gateway_version <> '') AS gateway_version,
        arg_max(model, at_ns) FILTER (model <> '') AS told_model,
        max(t_ns) FILTER (what = 'start') AS started_ns,
        count(*) FILTER (what = 'start') AS starts,
        count(*) FILTER (what = 'decision' AND active) AS decisions,
        count(*) FILTER (what = 'decision' AND active AND opens) AS trips,
        count(*) FILTER (what = 'alert') AS alerts,
        count(*) FILTER (what = 'order' AND result <> 'taken') AS orders_refused,
        coalesce(CAST(sum(records) FILTER (what = 'dropped') AS BIGINT), 0) AS records_dropped
    FROM stamped
    GROUP BY vehicle_id
),
drove AS (
    SELECT vehicle_id, any_value(model) AS model, max(end_ns) AS frames_ns
    FROM windows
    GROUP BY vehicle_id
),
known AS (
    SELECT
        * EXCLUDE (model, told_model),
        coalesce(model, told_model) AS model,
        greatest(reported_ns, frames_ns) AS heard_ns
    FROM drove
    FULL JOIN said USING (vehicle_id)
),
numbered AS (
    SELECT
        *,
        list_transform(
            string_split(gateway_version, '.'),
            lambda part: coalesce(TRY_CAST(regexp_extract(part, '^\d+') AS INTEGER), 0)
        ) AS parts
    FROM known
)
SELECT
    vehicle_id,
    model,
    heard_ns,
    -- behind the newest that the lake holds of any vehicle
    (max(epoch_ns(heard_ns)) OVER () - epoch_ns(heard_ns)) / 1e9 AS silent_s,
    frames_ns,
    reported_ns,
    gateway_version,
    parts < max(parts) OVER () AS outdated,
    started_ns,
    coalesce(starts, 0) AS starts,
    coalesce(decisions, 0) AS decisions,
    coalesce(trips, 0) AS trips,
    coalesce(alerts, 0) AS alerts,
    coalesce(orders_refused, 0) AS orders_refused,
    coalesce(records_dropped, 0) AS records_dropped
FROM numbered
ORDER BY vehicle_id
