-- Faults that have not cleared, the gravest and oldest first. Example: SELECT * FROM open_incidents WHERE severity >= 3
SELECT severity, vehicle_id, pack_id, model, kind, subject, opened_ns, updated_ns, text, evidence, id, revision
FROM incidents
WHERE status <> 'clear'
ORDER BY severity DESC, opened_ns, id
