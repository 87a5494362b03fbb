-- What is there before anybody replicates.
INSERT INTO site (name, at, network, labels)
  SELECT 'site ' || i, (i, -i / 3.0)::coordinates, '10.0.0.0/8', jsonb_build_object('zone', i)
  FROM generate_series(1, 20) i;
INSERT INTO device (site, serial, channels, manual, installed, mac)
  SELECT 1 + i % 20, md5(i::text)::uuid, ARRAY['humidity', 'pressure']::metric[], repeat('fan manual ' || i, 300),
         tstzrange('2023-01-01 UTC'::timestamptz + i * interval '1 day', NULL), '08:00:2b:01:02:03'
  FROM generate_series(1, 80) i;
INSERT INTO reading (device, at, metric, value, quality, raw)
  SELECT 1 + i % 80, '2024-01-01 UTC'::timestamptz + i * interval '100 minutes',
         (ARRAY['temperature', 'humidity', 'pressure']::metric[])[1 + i % 3], i / 7.0, i % 100,
         CASE WHEN i % 50 = 0 THEN decode(repeat(md5(i::text), 100), 'hex') END
  FROM generate_series(1, :rows * 3) i;
INSERT INTO incident (device, at, severity, details, words)
  SELECT 1 + i % 80, '2024-01-01 UTC'::timestamptz + i * interval '1 hour', 'warning', jsonb_build_object('n', i, 's', ARRAY[i]),
         CASE i % 3 WHEN 0 THEN 'loud fan' ELSE 'ünquiet disk ' || i END
  FROM generate_series(1, :rows) i;
INSERT INTO maintenance (device, during, windows)
  SELECT d, tstzrange('2024-01-01 UTC'::timestamptz + q * interval '1 day', '2024-01-02 UTC'::timestamptz + q * interval '1 day'), '{}'
  FROM generate_series(1, 80) d, generate_series(1, 3) q;
INSERT INTO notice (words) SELECT 'notice ' || i FROM generate_series(1, 40) i;
INSERT INTO alarm (words, level, seen_by) SELECT 'alarm ' || i, 'alarm', ARRAY['ann', NULL, 'bo'] FROM generate_series(1, 40) i;
INSERT INTO raw_line SELECT 'line ' || i % 40, NULL FROM generate_series(1, :rows) i;
