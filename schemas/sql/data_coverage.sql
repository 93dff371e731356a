-- What was heard of each pack a day, and what was missing. Example: SELECT * FROM data_coverage WHERE coverage < 0.9
WITH heard AS (
    SELECT
        vehicle_id,
        pack_id,
        CAST(start_ns AS DATE) AS day,
        CAST(sum(frames) AS BIGINT) AS frames,
        CAST(sum(complete_frames) AS BIGINT) AS complete_frames,
        avg(coverage) AS coverage, -- of the time in windows that had a frame
        sum(epoch_ns(end_ns) - epoch_ns(start_ns)) / 3.6e12 AS window_hours,
        bit_or(quality) AS quality
    FROM windows
    GROUP BY ALL
),
holes AS (
    SELECT
        pack_id,
        CAST(from_ns AS DATE) AS day,
        count(*) AS gaps,
        CAST(sum(missing) FILTER (missing > 0) AS BIGINT) AS missing_frames,
        max(epoch_ns(to_ns) - epoch_ns(from_ns)) / 1e9 AS longest_gap_s
    FROM gaps
    GROUP BY ALL
),
refused AS (
    SELECT pack_id, CAST(t_ns AS DATE) AS day, count(*) AS dead_letters
    FROM dead_letters
    GROUP BY ALL
)
SELECT
    heard.*,
    coalesce(gaps, 0) AS gaps,
    coalesce(missing_frames, 0) AS missing_frames,
    longest_gap_s,
    coalesce(dead_letters, 0) AS dead_letters
FROM heard
LEFT JOIN holes USING (pack_id, day)
LEFT JOIN refused USING (pack_id, day)
ORDER BY pack_id, day
