#include "apply/footprint.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bitacora::apply {
namespace {

constexpr std::uint32_t kTable = 1;
constexpr std::uint32_t kOther = 2;

TablePlan plan(Reach reach, bool keyed = true) {
  TablePlan plan;
  plan.columns.resize(2);
  if (keyed) plan.locator = {0};
  plan.reach = reach;
  return plan;
}

proto::Tuple tuple(const std::string& key, proto::ValueKind kind = proto::ValueKind::kBinary) {
  return {{kind, key}, {proto::ValueKind::kNull, {}}};
}

pb::Rows block(std::uint32_t relation, pb::RowOperation operation, const std::string& old_key,
               const std::string& new_key, proto::ValueKind kind = proto::ValueKind::kBinary) {
  proto::Row row;
  if (proto::has_old_tuple(operation)) row.old_tuple = tuple(old_key, kind);
  if (proto::has_new_tuple(operation)) row.new_tuple = tuple(new_key, kind);
  proto::RowBlockBuilder builder(relation, operation);
  EXPECT_TRUE(builder.append(relation, operation, row));
  return builder.finish();
}

Footprint of(const TablePlan& plan, const pb::Rows& rows) {
  Footprint footprint;
  EXPECT_TRUE(footprint.add(plan, rows).ok());
  return footprint;
}

struct Case {
  const char* name;
  Footprint first;
  Footprint second;
  bool meet;
};

TEST(Footprint, MeetsWhatTouchesTheSame) {
  const auto by_key = plan(Reach::kKey);
  const auto keyless = plan(Reach::kKey, false);
  const auto insert = [&](const std::string& key, std::uint32_t table = kTable) {
    return of(by_key, block(table, pb::INSERT, {}, key));
  };
  const auto whole = of(plan(Reach::kTable), block(kTable, pb::INSERT, {}, "z"));
  const auto text = of(by_key, block(kTable, pb::INSERT, {}, "z", proto::ValueKind::kText));
  const auto append = of(keyless, block(kTable, pb::INSERT, {}, "a"));
  const auto search = of(keyless, block(kTable, pb::DELETE_FULL, "a", {}));
  for (const Case& c : {
           Case{"the same key", insert("a"), insert("a"), true},
           Case{"another key", insert("a"), insert("b"), false},
           Case{"the key of another table", insert("a"), insert("a", kOther), false},
           Case{"an old key", insert("a"), of(by_key, block(kTable, pb::UPDATE_KEY, "a", "b")),
                true},
           Case{"a new key", insert("b"), of(by_key, block(kTable, pb::UPDATE_KEY, "a", "b")),
                true},
           Case{"a deleted one", insert("a"), of(by_key, block(kTable, pb::DELETE_KEY, "a", {})),
                true},
           Case{"the whole table", insert("a"), whole, true},
           Case{"after the whole table", whole, insert("a"), true},
           Case{"another whole table", whole, insert("a", kOther), false},
           Case{"a key as text", insert("a"), text, true},
           Case{"rows without key", append, append, false},
           Case{"a row found by its values", append, search, true},
           Case{"after a row found by its values", search, append, true},
       }) {
    SCOPED_TRACE(c.name);
    InFlight in_flight;
    in_flight.add(1, c.first);
    EXPECT_EQ(in_flight.last_met(c.second), c.meet ? 1u : 0u);
    in_flight.remove(1, c.first);
    EXPECT_EQ(in_flight.last_met(c.second), 0u);
  }
}

TEST(Footprint, TheLastOneMetIsWaitedFor) {
  const auto by_key = plan(Reach::kKey);
  const auto a = of(by_key, block(kTable, pb::INSERT, {}, "a"));
  const auto b = of(by_key, block(kTable, pb::INSERT, {}, "b"));
  const auto whole = of(plan(Reach::kTable), block(kTable, pb::INSERT, {}, "c"));
  InFlight in_flight;
  in_flight.add(1, a);
  in_flight.add(2, b);
  in_flight.add(3, a);
  EXPECT_EQ(in_flight.last_met(a), 3u);
  EXPECT_EQ(in_flight.last_met(b), 2u);
  EXPECT_EQ(in_flight.last_met(whole), 3u);
  in_flight.remove(1, a);
  EXPECT_EQ(in_flight.last_met(a), 3u) << "the later one's key stays";
  in_flight.add(4, whole);
  in_flight.remove(2, b);
  in_flight.remove(3, a);
  EXPECT_EQ(in_flight.last_met(b), 4u);
}

}  // namespace
}  // namespace bitacora::apply
