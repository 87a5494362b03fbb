// pgoutput asked for binary ends the stream at an array, composite or range whose elements have no
// send function: the sender then asks for text, of every column of the stream.
#include <gtest/gtest.h>

#include "tests/engine/table_life.h"

namespace bitacora::harness {
namespace {

std::vector<TableLife> cases() {
  return {{"an array of a type without a binary form",
           "CREATE TABLE t (id int PRIMARY KEY, a aclitem[])",
           {"INSERT INTO t VALUES (1, '{postgres=r/postgres}')", "UPDATE t SET a = '{}'"}},
          {"a composite with such a field, beside columns of every other kind",
           "CREATE TYPE grant_note AS (who aclitem, note text);"
           "CREATE TABLE t (id int PRIMARY KEY, g grant_note, n numeric, b bytea, w timestamptz)",
           {"INSERT INTO t VALUES (1, ROW('postgres=r/postgres', 'x'), 1.50, '\\x00ff', now())",
            "UPDATE t SET g = ROW('postgres=w/postgres', 'y')", "UPDATE t SET id = 2"}}};
}

TABLE_LIFE(TableLifeBinaryArrays, cases)

}  // namespace
}  // namespace bitacora::harness
