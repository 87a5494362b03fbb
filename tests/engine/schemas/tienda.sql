-- What is otherwise on the standby, after the shop's own SQL in the schema tienda. The rules that say
-- the same to the receiver are in rich_schemas_test.cc.

-- Inherited columns are called otherwise in all three.
ALTER TABLE party RENAME COLUMN name TO nombre;
ALTER TABLE party RENAME COLUMN tags TO "Etiquetas";
ALTER TABLE customer RENAME TO cliente;
ALTER TABLE cliente RENAME COLUMN credit TO credito;

-- The trigger that keeps it does not know that: it must not run here.
ALTER TABLE product DROP COLUMN touched;

-- A partition under another name, and all of its columns with it.
ALTER TABLE orders_2023 RENAME TO pedidos_viejos;
ALTER TABLE orders RENAME COLUMN remark TO nota;

ALTER TABLE stock_move RENAME COLUMN moved TO cantidad;
ALTER TABLE stock_move DROP COLUMN reason;

ALTER TABLE delivery ADD COLUMN seen timestamptz DEFAULT now();

-- Coupons of several shops in one table of another schema.
CREATE SCHEMA ventas;
CREATE TYPE ventas.region AS ENUM ('us', 'eu');
DROP TABLE coupon;
CREATE TABLE ventas.cupon (
  minimo amount,
  region ventas.region NOT NULL,
  code text,
  rebate numeric(5, 2),
  valid daterange,
  used bigint NOT NULL,
  PRIMARY KEY (region, code)
);
INSERT INTO ventas.cupon VALUES (1, 'us', 'C1', 1, NULL, 1), (1, 'us', 'X0-1', 1, NULL, 1);

-- Here a trigger is meant to run: for what comes from the master, too.
CREATE TABLE cajas (session int PRIMARY KEY, escrito int NOT NULL);
CREATE FUNCTION count_boxes() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
  INSERT INTO cajas VALUES (NEW.session, 1)
    ON CONFLICT (session) DO UPDATE SET escrito = cajas.escrito + 1;
  RETURN NULL;
END $$;
CREATE TRIGGER count_boxes AFTER INSERT ON basket FOR EACH ROW EXECUTE FUNCTION count_boxes();
ALTER TABLE basket ENABLE ALWAYS TRIGGER count_boxes;
