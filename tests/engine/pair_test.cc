// The main line: what is written on the master appears on the standby, whole and in order.
#include <gtest/gtest.h>

#include "tests/postgres/database.h"
#include "tests/postgres/pair.h"

namespace bitacora::harness {
namespace {

TEST(Pair, RowsArrive) {
  Pair pair;
  pair.on_both("CREATE TABLE datos (nombre character(20), telefono integer)");
  pair.on_both("INSERT INTO datos VALUES ('Pepe', 958233459), ('Cristina', 658765412)");
  pair.start();
  pair.on_master("INSERT INTO datos VALUES ('Juan', 987654321)");
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM datos"), "3");
  EXPECT_TRUE(pair.same_content("public.datos"));
}

TEST(Pair, UpdatesAndDeletesFindTheirRows) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id integer PRIMARY KEY, v text, n numeric)");
  pair.start();
  pair.on_master("INSERT INTO t SELECT i, 'v' || i, i * 1.5 FROM generate_series(1, 1000) i");
  pair.on_master("UPDATE t SET v = v || 'x' WHERE id % 2 = 0");
  pair.on_master("UPDATE t SET id = id + 10000 WHERE id % 7 = 0");
  pair.on_master("DELETE FROM t WHERE id % 5 = 0");
  pair.wait_applied();
  EXPECT_TRUE(pair.same_content("public.t"));
  EXPECT_NE(query_value(pair.standby(), "SELECT count(*) FROM t"), "0");
}

TEST(Pair, StopsAndGoesOnWhereItWas) {
  Pair pair;
  pair.on_both("CREATE TABLE t (id integer PRIMARY KEY)");
  pair.start();
  pair.on_master("INSERT INTO t VALUES (1)");
  pair.wait_applied();
  EXPECT_EQ(pair.stop_receiver(), 0);
  pair.on_master("INSERT INTO t VALUES (2)");
  EXPECT_EQ(pair.stop_sender(), 0);
  pair.on_master("INSERT INTO t VALUES (3)");
  pair.start();
  pair.wait_applied();
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "3");
}

}  // namespace
}  // namespace bitacora::harness
