-- What was recorded around each trip, why it tripped, and the incidents that it explains; the frames are in black_box_frames. Example: SELECT vehicle_id, trip_ns, reason, frames, complete FROM black_boxes
WITH boxes AS (
    SELECT
        vehicle_id,
        any_value(model) AS model,
        trip_ns,
        count(*) AS frames,
        min(t_ns) AS from_ns,
        max(t_ns) AS to_ns,
        count(DISTINCT piece) AS pieces,
        bool_or(last_piece) AND count(DISTINCT piece) = max(piece) + 1 AS complete,
        min(current_a) AS current_min_a,
        max(current_a) AS current_max_a,
        min(list_min(cell_v)) AS cell_v_lowest,
        max(list_max(cell_v)) AS cell_v_highest,
        max(list_max(temp_c)) AS temp_highest_c
    FROM black_box_frames
    GROUP BY vehicle_id, trip_ns
),
-- a trip while one is recorded makes the recording longer
reasons AS (
    SELECT
        boxes.vehicle_id,
        boxes.trip_ns,
        arg_min(decided.text, (decided.decided_ns, decided.limit_key)) AS reason,
        list(decided.limit_key ORDER BY decided.decided_ns, decided.limit_key) AS limit_keys,
        list(DISTINCT decided.incident ORDER BY decided.incident)
            FILTER (decided.incident IS NOT NULL) AS explains
    FROM boxes
    JOIN gateway_decisions AS decided
        ON decided.vehicle_id = boxes.vehicle_id
        AND decided.opens
        AND decided.decided_ns BETWEEN boxes.trip_ns AND boxes.to_ns
    GROUP BY boxes.vehicle_id, boxes.trip_ns
)
SELECT boxes.*, reasons.reason, reasons.limit_keys, reasons.explains
FROM boxes
LEFT JOIN reasons
    ON reasons.vehicle_id = boxes.vehicle_id
    AND reasons.trip_ns = boxes.trip_ns
ORDER BY boxes.trip_ns, boxes.vehicle_id
