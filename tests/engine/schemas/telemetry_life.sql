-- One round of one of four sessions (:session, 0 to 3); each step is a transaction at least. Sessions
-- keep to devices of their own.
INSERT INTO reading (device, at, metric, value, quality, raw)
  SELECT d.id, '2024-01-15 UTC'::timestamptz + (:round % 90) * interval '1 day' + d.n * interval '1 second' + i * interval '1 minute',
         (ARRAY['temperature', 'humidity', 'pressure']::metric[])[1 + i % 3], sqrt(i), i % 100,
         CASE WHEN i % 40 = 0 THEN decode(repeat(md5(i::text), 90), 'hex') END
  FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM device WHERE id % 4 = :session AND (id / 4) % 5 = :round % 5) d,
       generate_series(1, :rows) i
  ON CONFLICT DO NOTHING;
-- next
INSERT INTO reading (device, at, metric, value)
  SELECT id, '2024-02-10 UTC', 'humidity', :round FROM device WHERE id % 4 = :session
  ON CONFLICT (device, at, metric) DO UPDATE SET value = excluded.value, quality = 50;
-- next
-- raw is not touched, and not sent.
UPDATE reading SET value = value + 1, quality = NULL WHERE device % 4 = :session AND (device / 4) % 9 = :round % 9;
-- next
-- Into other partitions: of a month, of a metric.
UPDATE reading SET at = at + interval '31 days' + :round * interval '1 microsecond' WHERE device % 4 = :session AND (device / 4) % 17 = :round % 17;
-- next
UPDATE reading SET metric = 'temperature', at = at + interval '0.5 seconds' WHERE device % 4 = :session AND (device / 4) % 19 = :round % 19 AND metric = 'pressure';
-- next
BEGIN;
DELETE FROM reading WHERE device % 4 = :session AND (device / 4) % 6 = :round % 6 AND at < '2024-01-20 UTC';
SAVEPOINT a;
DELETE FROM reading WHERE device % 4 = :session;
INSERT INTO raw_line VALUES ('undone', now());
ROLLBACK TO SAVEPOINT a;
UPDATE device SET manual = manual || '.' WHERE id % 4 = :session AND (id / 4) % 5 = :round % 5;
COMMIT;
-- next
INSERT INTO incident (device, at, severity, details, words)
  SELECT d.id, '2024-01-20 UTC'::timestamptz + i * interval '7 hours', (ARRAY['info', 'warning', 'alarm']::severity[])[1 + i % 3],
         jsonb_build_object('round', :round), 'loud fan ' || i
  FROM device d, generate_series(1, 4) i WHERE d.id % 4 = :session;
-- next
-- Their device is their partition.
UPDATE incident SET device = (SELECT min(id) FROM device WHERE id % 4 = :session AND id > incident.device), details = details || '{"moved": true}'
  WHERE device % 4 = :session AND id % 7 = :round % 7
    AND EXISTS (SELECT FROM device WHERE id % 4 = :session AND id > incident.device);
-- next
UPDATE incident SET severity = 'alarm', words = 'quiet' WHERE device % 4 = :session AND id % 5 = :round % 5;
-- next
UPDATE incident SET at = at + interval '10 days' WHERE device % 4 = :session AND id % 11 = :round % 11;
-- next
DELETE FROM incident WHERE device % 4 = :session AND id % 6 = :round % 6;
-- next
-- A device comes, and a site goes with its device, readings and all.
BEGIN;
INSERT INTO site (id, name) VALUES (100 + :session, 'temporary :session');
INSERT INTO device (site, serial, channels, manual) VALUES (100 + :session, md5('s:session-:round')::uuid, '{}', 'loud');
INSERT INTO reading (device, at, metric, value) SELECT max(id), '2024-01-25 UTC'::timestamptz + i * interval '12 hours', 'pressure', i
  FROM device, generate_series(1, 100) i WHERE site = 100 + :session GROUP BY i;
INSERT INTO incident (device, at, words) SELECT id, '2024-05-01 UTC', 'fan' FROM device WHERE site = 100 + :session;
COMMIT;
DELETE FROM site WHERE id = 100 + :session;
-- next
BEGIN;
DELETE FROM maintenance WHERE device % 4 = :session AND lower(during) = '2024-01-03 UTC';
UPDATE maintenance SET during = tstzrange(lower(during), upper(during) + interval '1 day'),
  windows = windows + tstzmultirange(during) WHERE device % 4 = :session AND during = '[2024-01-02 UTC,2024-01-03 UTC)';
UPDATE maintenance SET during = '[2024-01-02 UTC,2024-01-03 UTC)' WHERE device % 4 = :session AND during = '[2024-01-02 UTC,2024-01-04 UTC)';
INSERT INTO maintenance (device, during) SELECT id, '[2024-01-03 UTC,2024-01-04 UTC)' FROM device WHERE id % 4 = :session;
COMMIT;
-- next
-- Refused by the exclusion constraint, and rolled back.
INSERT INTO maintenance (device, during) SELECT min(id), '[2024-01-01 UTC,2025-01-01 UTC)' FROM maintenance WHERE device % 4 = :session;
-- next
INSERT INTO notice (words) SELECT 'round :round' FROM generate_series(1, 20);
UPDATE ONLY notice SET id = DEFAULT WHERE id % 4 = :session AND id % 5 = :round % 5;
UPDATE alarm SET level = 'warning', seen_by = array_append(seen_by, 's:session') WHERE id % 4 = :session;
UPDATE alarm SET id = -id WHERE id % 4 IN (:session, -:session) AND id % 6 = 0;
DELETE FROM notice WHERE id % 4 = :session AND id % 9 = :round % 9;
-- next
INSERT INTO raw_line SELECT 's:session ' || i % 9, '2024-01-01 UTC' FROM generate_series(1, :rows) i;
UPDATE raw_line SET at = NULL WHERE line = 's:session 4';
DELETE FROM raw_line WHERE line IN ('s:session 4', 's:session 7');
-- next of round 3
TRUNCATE raw_line;
-- next of round 4
TRUNCATE incident;
-- next of round 5
CREATE TABLE reading_2024_04 PARTITION OF reading FOR VALUES FROM ('2034-04-01 UTC') TO ('2034-05-01 UTC');
INSERT INTO reading (device, at, metric, value) SELECT id, '2034-04-03 UTC', 'humidity', 4 FROM device WHERE id % 4 = 0;
