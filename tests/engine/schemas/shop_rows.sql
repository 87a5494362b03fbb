-- What is there before anybody replicates.
INSERT INTO supplier (name, mail, addresses, terms, contact)
  SELECT 'supplier ' || i, 's' || i || '@example.org', ARRAY[('street ' || i, 'Málaga', NULL)::address],
         i * interval '1 day', int4range(i, i + 10) FROM generate_series(1, 20) i;
INSERT INTO party (name) VALUES ('neither'), ('nor');
INSERT INTO customer (name, mail, tags, credit, note)
  SELECT 'customer ' || i, 'c' || i || '@example.org', ARRAY['t' || i % 3, NULL], i, repeat('n', i % 90)
  FROM generate_series(1, :rows) i;
INSERT INTO category (id, parent, name, path)
  SELECT i, nullif(i / 4, 0), 'category ' || i, ARRAY[i / 4, i] FROM generate_series(1, 40) i;
SELECT setval('category_id_seq', 40);
INSERT INTO product (sku, category, supplier, title, body, price, sizes, attributes)
  SELECT 'sku-' || i, 1 + i % 40, (SELECT min(id) FROM supplier) + i % 20,
         CASE WHEN i % 5 = 0 THEN 'green chair ' ELSE 'thing ' END || i, repeat('body ' || i, 600), i % 100,
         ARRAY[i, NULL, -i], jsonb_build_object('colour', 'c' || i % 4, 'n', i)
  FROM generate_series(1, :rows) i;
INSERT INTO price_list (product, valid, price)
  SELECT p.id, daterange('2024-01-01'::date + 30 * q, '2024-01-01'::date + 30 * q + 30), q
  FROM product p, generate_series(0, 2) q WHERE p.id % 3 = 0;
INSERT INTO orders (placed, customer, ship_to, total)
  SELECT '2023-06-01'::date + (n % 700)::int, c.id, ('s', 'c', n::text)::address, n
  FROM customer c, generate_series(1, 2) k, LATERAL (SELECT c.id * 7 + k AS n) AS number;
INSERT INTO order_line (order_id, placed, line, product, quantity, price)
  SELECT o.id, o.placed, l, (SELECT min(id) FROM product) + (o.id + l) % :rows, l, l
  FROM orders o, generate_series(1, 2) l;
INSERT INTO delivery (van, hours, stops)
  SELECT i % 8, tstzrange('2024-01-01 UTC'::timestamptz + i * interval '1 hour',
                          '2024-01-01 UTC'::timestamptz + (i + 4) * interval '1 hour'),
         nummultirange(numrange(i, i + 1), numrange(i + 2, NULL)) FROM generate_series(1, 100) i;
INSERT INTO stock_move SELECT i % 50, i % 7 - 3, '2024-01-01 UTC'::timestamptz, 'first' FROM generate_series(1, :rows) i;
INSERT INTO coupon SELECT 'C' || i, i % 50, daterange('2024-01-01', NULL), 0, i FROM generate_series(1, 100) i;
INSERT INTO basket SELECT 4, i, '{"items": []}' FROM generate_series(1, 50) i;
