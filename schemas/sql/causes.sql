-- The fleet's most frequent causes by pack model and years since the pack was first heard of. Example: SELECT * FROM causes WHERE model = 'leaf-24kwh'
WITH first_heard AS (
    SELECT pack_id, min(start_ns) AS first_ns
    FROM windows
    GROUP BY pack_id
)
SELECT
    i.model,
    CAST(greatest(date_diff('day', first_ns, opened_ns), 0) // 365 AS INTEGER) AS years,
    i.cause,
    count(*) AS incidents,
    count(DISTINCT i.pack_id) AS packs,
    avg(i.likelihood) AS likelihood,
    count(*) FILTER (i.status <> 'clear') AS still_open,
    any_value(i.id) AS for_example
FROM incidents AS i
LEFT JOIN first_heard USING (pack_id)
WHERE i.cause <> ''
GROUP BY ALL
ORDER BY incidents DESC, model, years, cause
