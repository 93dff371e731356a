-- What each pack can surely give and take as last known: 95 % one-sided bounds. Example: SELECT vehicle_id FROM reserve WHERE energy_sure_kwh > 20 AND discharge_sure_w > 50000
WITH newest AS (
    SELECT *
    FROM windows
    WHERE soe_kwh IS NOT NULL
    QUALIFY row_number() OVER (PARTITION BY pack_id ORDER BY start_ns DESC) = 1
),
words(code, bound) AS (
    VALUES (0, 'cell voltage'), (1, 'current'), (2, 'temperature'), (3, 'SOC')
)
SELECT
    newest.vehicle_id,
    newest.pack_id,
    newest.model,
    newest.end_ns AS known_at,
    newest.soc_end AS soc,
    newest.soc_std,
    newest.soe_kwh,
    newest.soe_std_kwh,
    greatest(newest.soe_kwh - 1.645 * newest.soe_std_kwh, 0) AS energy_sure_kwh,
    newest.sop_discharge_10s_w,
    newest.sop_discharge_10s_std_w,
    -- for 10 s, and for 2 and 30 s
    greatest(newest.sop_discharge_10s_w - 1.645 * newest.sop_discharge_10s_std_w, 0) AS discharge_sure_w,
    greatest(newest.sop_discharge_2s_w - 1.645 * newest.sop_discharge_2s_std_w, 0) AS discharge_sure_2s_w,
    greatest(newest.sop_discharge_30s_w - 1.645 * newest.sop_discharge_30s_std_w, 0) AS discharge_sure_30s_w,
    discharging.bound AS discharge_bound,
    greatest(newest.sop_charge_10s_w - 1.645 * newest.sop_charge_10s_std_w, 0) AS charge_sure_w,
    greatest(newest.sop_charge_2s_w - 1.645 * newest.sop_charge_2s_std_w, 0) AS charge_sure_2s_w,
    greatest(newest.sop_charge_30s_w - 1.645 * newest.sop_charge_30s_std_w, 0) AS charge_sure_30s_w,
    charging.bound AS charge_bound
FROM newest
LEFT JOIN words AS discharging ON discharging.code = newest.sop_discharge_10s_limit
LEFT JOIN words AS charging ON charging.code = newest.sop_charge_10s_limit
ORDER BY newest.vehicle_id, newest.pack_id
