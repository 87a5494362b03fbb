-- One round of one of four sessions (:session, 0 to 3); each step is a transaction at least. Sessions
-- keep to ids of their own as far as foreign keys let them.
INSERT INTO customer (name, mail, addresses, tags, credit)
  SELECT 'new ' || i, 'n' || i || '@s:session.example', ARRAY[('a', 'b', 'c')::address, NULL], ARRAY['round :round'], i
  FROM generate_series(1, :rows) i;
-- next
WITH placed AS (
  INSERT INTO orders (placed, customer, ship_to, total, remark)
    SELECT '2023-03-01'::date + (c.id % 900)::int, c.id, ('x', NULL, 'y')::address, c.id % 1000, 'round :round'
    FROM customer c WHERE c.tags = ARRAY['round :round'] AND c.mail LIKE '%@s:session.example'
    RETURNING id, placed
)
INSERT INTO order_line (order_id, placed, line, product, quantity, price)
  SELECT p.id, p.placed, l, (SELECT min(id) FROM product WHERE id % 4 = :session), l, 2.5
  FROM placed p, generate_series(1, 3) l;
-- next
BEGIN;
UPDATE orders SET state = 'paid', history = history || 'paid'::order_state
  WHERE id % 4 = :session AND state = 'new' AND remark = 'round :round';
SAVEPOINT sent;
UPDATE orders SET state = 'sent', remark = 'never' WHERE id % 4 = :session AND remark = 'round :round';
DELETE FROM coupon WHERE code LIKE 'X:session%';
ROLLBACK TO SAVEPOINT sent;
UPDATE order_line SET quantity = quantity + 1
  WHERE order_id % 4 = :session AND (order_id / 4) % 10 = :round % 10 AND line = 1;
COMMIT;
-- next
-- Into another partition, with the lines: deleted and inserted, which is what the logs have of it.
BEGIN;
CREATE TEMPORARY TABLE moved ON COMMIT DROP AS
  SELECT l.* FROM order_line l JOIN orders o ON o.id = l.order_id AND o.placed = l.placed
  WHERE o.id % 4 = :session AND (o.id / 4) % 20 = :round % 20;
DELETE FROM order_line l USING moved m WHERE (l.order_id, l.placed, l.line) = (m.order_id, m.placed, m.line);
UPDATE orders SET placed = placed + 366
  WHERE id % 4 = :session AND (id / 4) % 20 = :round % 20;
INSERT INTO order_line (order_id, placed, line, product, quantity, price)
  SELECT order_id, placed + 366, line, product, quantity, price FROM moved;
COMMIT;
-- next
-- The body is not touched, and not sent.
UPDATE product SET price = price + 1, attributes = attributes || '{"round": :round}'
  WHERE id % 4 = :session AND (id / 4) % 3 = :round % 3;
-- next
UPDATE product SET body = 'round :round ' || left(body, 3000), title = 'green chair of :session'
  WHERE id % 4 = :session AND (id / 4) % 9 = :round % 9;
-- next
INSERT INTO product (sku, category, title, body, price, sizes)
  SELECT 'r:round-s:session-' || i, (SELECT min(id) FROM category), 'green chair', repeat('b', 40 * i), i, '{}'
  FROM generate_series(1, 20) i;
-- next
INSERT INTO product (sku, title, price) SELECT 'r:round-s:session-' || i, 'renamed', 1 FROM generate_series(15, 25) i
  ON CONFLICT (sku) DO UPDATE SET title = 'renamed', price = product.price + excluded.price;
-- next
DELETE FROM product WHERE sku LIKE 'r:round-s:session-1%';
-- next
-- A subtree, what is in it, its prices and lines.
BEGIN;
INSERT INTO category (id, parent, name, path) VALUES (1000 + :session, NULL, 'root', '{}'),
  (2000 + :session, 1000 + :session, 'child', ARRAY[1000 + :session]);
INSERT INTO product (sku, category, title, price) SELECT 'tree:session-' || i, 2000 + :session, 't', 1
  FROM generate_series(1, 10) i;
INSERT INTO price_list (product, valid, price) SELECT id, '[2024-01-01,2024-02-01)', 1 FROM product
  WHERE category = 2000 + :session;
COMMIT;
DELETE FROM category WHERE id = 1000 + :session;
-- next
-- Room is made before it is taken: in this order only.
BEGIN;
UPDATE price_list SET valid = daterange(lower(valid), upper(valid) - 10), price = price + 1
  WHERE product % 4 = :session AND upper(valid) - lower(valid) = 30;
UPDATE price_list SET valid = daterange(lower(valid) - 10, upper(valid))
  WHERE product % 4 = :session AND upper(valid) - lower(valid) = 20 AND lower(valid) > '2024-01-01';
COMMIT;
-- next
BEGIN;
CREATE TEMPORARY TABLE gone ON COMMIT DROP AS SELECT * FROM price_list WHERE product % 4 = :session;
DELETE FROM price_list WHERE product % 4 = :session;
INSERT INTO price_list (product, valid, price) SELECT product, valid, price + 0.5 FROM gone ORDER BY random();
COMMIT;
-- next
-- Refused by the exclusion constraint, and rolled back.
INSERT INTO price_list (product, valid, price) SELECT product, valid, 0 FROM price_list
  WHERE product % 4 = :session LIMIT 3;
-- next
-- Two deliveries trade their hours; checked at COMMIT.
BEGIN;
UPDATE delivery d SET hours = other.hours FROM delivery other
  WHERE d.van = :session AND other.van = :session AND d.id <> other.id
    AND d.id IN (SELECT id FROM delivery WHERE van = :session ORDER BY id LIMIT 2)
    AND other.id IN (SELECT id FROM delivery WHERE van = :session ORDER BY id LIMIT 2);
COMMIT;
UPDATE delivery SET van = van + 4 WHERE id = (SELECT max(id) FROM delivery WHERE van = :session)
  AND NOT EXISTS (SELECT FROM delivery WHERE van = :session + 4 AND hours && '[2025-01-01,)');
-- next
UPDATE customer SET note = repeat('long note ', 900), credit = credit + 1 WHERE id % 4 = :session AND (id / 4) % 11 = :round % 11;
UPDATE customer SET credit = credit * 1.01, mail = NULL WHERE id % 4 = :session AND (id / 4) % 7 = :round % 7;
-- next
-- Their key, where nobody refers to them yet.
UPDATE supplier SET id = nextval('party_number'), name = name || '''' WHERE id % 4 = :session
  AND NOT EXISTS (SELECT FROM product WHERE product.supplier = supplier.id);
INSERT INTO supplier (name, terms) VALUES ('round :round', '1 mon -3 days 00:00:01.5');
-- next
DELETE FROM customer WHERE id % 4 = :session AND (id / 4) % 13 = :round % 13;
-- next
INSERT INTO stock_move SELECT i % 5, :session, '2024-06-01 UTC'::timestamptz + i * interval '1 minute', 'round :round'
  FROM generate_series(1, :rows) i;
UPDATE stock_move SET moved = moved + 10, reason = 'u' WHERE moved = :session AND product = :round % 5;
DELETE FROM stock_move WHERE moved = :session + 10 AND product <> 3;
-- next
INSERT INTO coupon SELECT 'X:session-' || i, i, '[2024-01-01,2024-12-31]', 1, NULL FROM generate_series(1, 30) i
  ON CONFLICT (code) DO UPDATE SET used = coupon.used + 1, valid = 'empty';
UPDATE coupon SET code = 'Y:session-:round-' || code WHERE code LIKE 'X:session-1%';
DELETE FROM coupon WHERE code LIKE 'Y:session-%5' AND length(code) > 9;
-- next
INSERT INTO basket SELECT :session, i, jsonb_build_object('round', :round, 'items', ARRAY[i, NULL])
  FROM generate_series(1, 20) i ON CONFLICT (session, slot) DO UPDATE SET content = excluded.content;
DELETE FROM basket WHERE session = :session AND slot % 3 = :round % 3;
-- next
BEGIN;
INSERT INTO customer (name) SELECT 'undone' FROM generate_series(1, 50);
TRUNCATE stock_move;
ROLLBACK;
-- next of round 3
TRUNCATE basket;
-- next of round 4
TRUNCATE order_line_1;
-- next of round 5
TRUNCATE orders_rest, order_line;
