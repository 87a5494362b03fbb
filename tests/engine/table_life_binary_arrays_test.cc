// Fails: pgoutput asked for binary ends the stream at an array (or composite, or range) whose
// elements have no send function. The sender should then ask for text.
#include <gtest/gtest.h>

#include "tests/engine/table_life.h"

namespace bitacora::harness {
namespace {

std::vector<TableLife> cases() {
  return {{"an array of a type without a binary form",
           "CREATE TABLE t (id int PRIMARY KEY, a aclitem[])",
           {"INSERT INTO t VALUES (1, '{postgres=r/postgres}')", "UPDATE t SET a = '{}'"}}};
}

TABLE_LIFE(TableLifeBinaryArrays, cases)

}  // namespace
}  // namespace bitacora::harness
