-- Why input was refused, how often and from where. Example: SELECT * FROM dead_letters_by_reason
SELECT
    reason,
    source,
    count(*) AS letters,
    count(DISTINCT nullif(pack_id, '')) AS packs,
    min(t_ns) FILTER (epoch_ns(t_ns) > 0) AS first_t_ns,
    max(t_ns) FILTER (epoch_ns(t_ns) > 0) AS last_t_ns,
    CAST(sum(octet_length(payload)) AS BIGINT) AS bytes,
    arg_min(detail, id) AS an_example
FROM dead_letters
GROUP BY reason, source
ORDER BY letters DESC, reason, source
