-- Why a pack's SOH is not newer: what spoke against the charges since one last counted. Example: SELECT * FROM why_no_estimate WHERE newest_counted IS NULL
WITH words(reason, meaning) AS (
    VALUES
        ('no_soc', 'SOC was not known at both ends'),
        ('delta_soc', 'SOC rose too little'),
        ('soc_uncertain', 'SOC was too uncertain for its rise'),
        ('soc_jump', 'SOC jumped beyond what the current explains'),
        ('gap', 'frames were missing for too long'),
        ('coverage', 'frames cover too little of the time'),
        ('temperature', 'too cold, too hot or unknown temperature'),
        ('auxiliary_load', 'a load drew from the pack meanwhile'),
        ('revised', 'a later version of a charge that was judged already'),
        ('outlier', 'it contradicts all charges before')
),
last_counted AS (
    SELECT pack_id, max(t_ns) FILTER (accepted) AS newest_counted FROM evidence GROUP BY pack_id
),
since AS (
    SELECT e.*, last_counted.newest_counted
    FROM evidence AS e
    JOIN last_counted USING (pack_id)
    WHERE NOT e.accepted AND (last_counted.newest_counted IS NULL OR e.t_ns > last_counted.newest_counted)
),
counts AS (
    SELECT pack_id, reason, count(*) AS n
    FROM (SELECT pack_id, unnest(string_split(reason, ',')) AS reason FROM since)
    GROUP BY ALL
),
against AS (
    SELECT pack_id, string_agg(n || ' × ' || meaning, '; ' ORDER BY n DESC, reason) AS why
    FROM counts
    JOIN words USING (reason)
    GROUP BY pack_id
),
newest AS (
    SELECT pack_id, arg_max(vehicle_id, t_ns) AS vehicle_id, max(t_ns) AS newest_charge FROM evidence GROUP BY pack_id
),
rejected AS (
    SELECT pack_id, count(*) AS rejected_since FROM since GROUP BY pack_id
)
SELECT
    newest.vehicle_id,
    pack_id,
    last_counted.newest_counted,
    newest.newest_charge,
    coalesce(rejected.rejected_since, 0) AS rejected_since,
    coalesce(against.why, 'the newest charge counted') AS why
FROM newest
JOIN last_counted USING (pack_id)
LEFT JOIN rejected USING (pack_id)
LEFT JOIN against USING (pack_id)
ORDER BY rejected_since DESC, pack_id
