-- One fault, one row: the fleet's incidents with what the gateway decided about the same fault, and the faults that a gateway alone saw. Example: SELECT vehicle_id, kind, subject, opened_by, gateway_action FROM faults WHERE opened_by <> 'fleet'
WITH decided AS (
    SELECT
        *,
        coalesce(kind, quantity) AS fault,
        coalesce(cleared_ns, decided_ns) AS until_ns
    FROM gateway_decisions
),
beside AS (
    SELECT
        incident,
        min(decided_ns) AS gateway_ns,
        bool_or(opens) AS opens,
        arg_max(action, (opens, tier = 'MSL', decided_ns)) AS gateway_action,
        arg_max(text, (opens, tier = 'MSL', decided_ns)) AS gateway_text
    FROM decided
    WHERE incident IS NOT NULL
    GROUP BY incident
),
-- rows of several tiers about one subject, and what comes back within 15 minutes, are one fault
marked AS (
    SELECT
        *,
        decided_ns > max(until_ns) OVER before + INTERVAL 15 MINUTE AS again
    FROM decided
    WHERE incident IS NULL
    WINDOW before AS (
        PARTITION BY vehicle_id, fault, subject ORDER BY decided_ns, limit_key
        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    )
),
episodes AS (
    SELECT
        *,
        sum(coalesce(again, false)::INTEGER) OVER (
            PARTITION BY vehicle_id, fault, subject ORDER BY decided_ns, limit_key
        ) AS episode
    FROM marked
),
alone AS (
    SELECT
        vehicle_id,
        any_value(model) AS model,
        fault AS kind,
        subject,
        CASE
            WHEN fault = 'thermal_event' THEN 4
            WHEN bool_or(tier = 'MSL') THEN 3
            WHEN bool_and(action = 'noted') THEN 1
            ELSE 2
        END AS severity,
        min(decided_ns) AS gateway_ns,
        CASE WHEN bool_and(cleared_ns IS NOT NULL) THEN max(cleared_ns) END AS cleared_ns,
        bool_or(opens) AS opens,
        arg_max(action, (opens, tier = 'MSL', decided_ns)) AS gateway_action,
        arg_max(text, (opens, tier = 'MSL', decided_ns)) AS gateway_text
    FROM episodes
    GROUP BY vehicle_id, fault, subject, episode
)
SELECT
    incidents.vehicle_id,
    incidents.pack_id,
    incidents.model,
    incidents.kind,
    incidents.subject,
    incidents.severity,
    CASE WHEN beside.incident IS NULL THEN 'fleet' ELSE 'both' END AS opened_by,
    least(incidents.opened_ns, beside.gateway_ns) AS opened_ns,
    CASE WHEN incidents.status = 'clear' THEN incidents.cleared_ns END AS cleared_ns,
    incidents.opened_ns AS fleet_ns,
    beside.gateway_ns,
    (epoch_ns(incidents.opened_ns) - epoch_ns(beside.gateway_ns)) / 1e9 AS gateway_ahead_s,
    coalesce(beside.opens, false) AS opens,
    beside.gateway_action,
    incidents.text,
    beside.gateway_text,
    incidents.id AS incident
FROM incidents
LEFT JOIN beside ON beside.incident = incidents.id
UNION ALL
SELECT
    vehicle_id, vehicle_id, model, kind, subject, severity, 'gateway', gateway_ns, cleared_ns, NULL, gateway_ns, NULL,
    opens, gateway_action, gateway_text, gateway_text, NULL
FROM alone
ORDER BY opened_ns, vehicle_id, kind, subject
