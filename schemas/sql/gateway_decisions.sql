-- What each vehicle's gateway decided by itself, when, and how that compares with the fleet's incident of the same fault. Example: SELECT vehicle_id, decided_ns, text, incident, ahead_s FROM gateway_decisions WHERE opens
WITH told AS (
    SELECT
        *,
        split_part(limit_key, '/', 3) AS side,
        split_part(limit_key, '/', 4) AS direction,
        lead(t_ns) OVER line AS next_ns,
        lead(active) OVER line AS next_active
    FROM gateway_reports
    WHERE what = 'decision'
    WINDOW line AS (PARTITION BY vehicle_id, limit_key ORDER BY t_ns, active)
),
-- what the fleet calls a limit that both hold against the same rows; an empty direction is any
kinds(quantity, side, direction, kind) AS (
    VALUES
        ('cell_v', 'over', '', 'cell_overvoltage'),
        ('cell_v', 'under', '', 'cell_undervoltage'),
        ('temp_c', 'over', '', 'overtemperature'),
        ('temp_c', 'under', '', 'undertemperature'),
        ('pack_v', 'over', '', 'pack_overvoltage'),
        ('pack_v', 'under', '', 'pack_undervoltage'),
        ('current_a', 'over', 'charge', 'overcurrent_charge'),
        ('current_a', 'over', 'discharge', 'overcurrent_discharge'),
        ('isolation_ohm_per_v', 'under', '', 'isolation'),
        ('cell_dev_v', 'over', '', 'cell_deviation'),
        ('temp_dev_c', 'over', '', 'probe_deviation'),
        ('thermal_event', 'over', '', 'thermal_event'),
        ('sum_mismatch_v', 'over', '', 'sum_mismatch'),
        ('cells_missing', 'over', '', 'missing_cells'),
        ('frozen_s', 'over', '', 'frozen')
),
-- kinds of one family on one subject are one incident, which the gravest of them names
families(kind, family) AS (
    VALUES
        ('overtemperature', 'thermal'),
        ('thermal_event', 'thermal'),
        ('cooling', 'thermal'),
        ('cell_spread', 'cell'),
        ('leak', 'cell'),
        ('cell_offset', 'cell'),
        ('resistance', 'cell'),
        ('capacity', 'cell'),
        ('sense_wire', 'cell'),
        ('stuck_cell', 'cell'),
        ('cell_deviation', 'cell'),
        ('cell_step', 'cell'),
        ('probe_offset', 'probe'),
        ('stuck_probe', 'probe'),
        ('probe_deviation', 'probe')
),
fired AS (
    SELECT
        told.*,
        CASE WHEN NOT next_active THEN next_ns END AS cleared_ns,
        kinds.kind,
        coalesce(families.family, kinds.kind) AS family,
        regexp_extract(subject, '^(cell|probe) \d+$', 1) AS part,
        TRY_CAST(regexp_extract(subject, '\d+$') AS INTEGER) AS place
    FROM told
    LEFT JOIN kinds
        ON kinds.quantity = told.quantity
        AND kinds.side = told.side
        AND kinds.direction IN ('', told.direction)
    LEFT JOIN families ON families.kind = kinds.kind
    WHERE active
),
seen AS (
    SELECT
        incidents.*,
        coalesce(families.family, incidents.kind) AS family,
        -- 'cell 5' or 'cells 5-8'
        regexp_extract(subject, '^(cell|probe)s? \d', 1) AS part,
        TRY_CAST(regexp_extract(subject, '\d+') AS INTEGER) AS first_place,
        TRY_CAST(regexp_extract(subject, '\d+$') AS INTEGER) AS last_place
    FROM incidents
    LEFT JOIN families ON families.kind = incidents.kind
),
matched AS (
    SELECT
        fired.id,
        seen.id AS incident,
        seen.kind AS incident_kind,
        seen.opened_ns AS incident_ns
    FROM fired
    JOIN seen
        ON seen.vehicle_id = fired.vehicle_id
        AND CASE
            -- about a cell or a probe: it is that which is wrong, whatever limit it breaks, as the fleet takes it too
            WHEN fired.family IN ('cell', 'probe') OR seen.family IN ('cell', 'probe')
                THEN seen.part = fired.part AND fired.place BETWEEN seen.first_place AND seen.last_place
            ELSE seen.family = fired.family -- whose subject is where it shows
        END
        -- what comes back within 15 minutes is the same fault
        AND seen.opened_ns <= coalesce(fired.cleared_ns, fired.t_ns) + INTERVAL 15 MINUTE
        AND (seen.status <> 'clear' OR seen.cleared_ns >= fired.since_ns - INTERVAL 15 MINUTE)
    QUALIFY row_number() OVER (
        PARTITION BY fired.id
        ORDER BY
            coalesce(fired.family = seen.family, false) DESC,
            abs(epoch_ns(seen.opened_ns) - epoch_ns(fired.since_ns)),
            seen.id
    ) = 1
)
SELECT
    fired.id,
    fired.vehicle_id,
    fired.model,
    fired.limit_key,
    fired.tier,
    fired.quantity,
    fired.subject,
    fired.value,
    fired.bound,
    fired.since_ns,
    fired.t_ns AS decided_ns,
    fired.cleared_ns,
    fired.action,
    fired.opens,
    fired.phase,
    fired.charge_a,
    fired.discharge_a,
    fired.soc,
    fired.text,
    fired.gateway_version,
    fired.kind,
    matched.incident,
    matched.incident_kind,
    matched.incident_ns,
    -- by how much the gateway was ahead of the fleet
    (epoch_ns(matched.incident_ns) - epoch_ns(fired.t_ns)) / 1e9 AS ahead_s
FROM fired
LEFT JOIN matched ON matched.id = fired.id
ORDER BY fired.vehicle_id, decided_ns, fired.limit_key
