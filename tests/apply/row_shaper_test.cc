#include "apply/row_shaper.h"

#include <gtest/gtest.h>

namespace bitacora::apply {
namespace {

using proto::Value;
using proto::ValueKind;

Value binary(std::string_view bytes) { return {ValueKind::kBinary, bytes}; }
Value text(std::string_view bytes) { return {ValueKind::kText, bytes}; }
const Value kNull{ValueKind::kNull};
const Value kUnchanged{ValueKind::kUnchanged};

std::string spelled(const proto::Tuple& tuple) {
  std::string line;
  for (const auto& value : tuple) {
    line += static_cast<char>(value.kind);
    line.append(value.bytes).append(" ");
  }
  return line;
}

// Every row's old and new tuple as it comes out.
std::vector<std::string> shaped(const RowShaper& shaper, const pb::Rows& block,
                                std::size_t columns) {
  const auto batch = shaper.shape(block);
  EXPECT_TRUE(batch.ok());
  if (!batch.ok()) return {};
  const auto& rows = (*batch)->parts(0).rows();
  EXPECT_EQ(rows.relation_oid(), block.relation_oid());
  EXPECT_EQ(rows.operation(), block.operation());
  proto::RowBlockReader reader(rows, columns);
  proto::Row row;
  std::vector<std::string> lines;
  while (!reader.done()) {
    const auto read = reader.next(row);
    EXPECT_TRUE(read.ok());
    if (!read.ok()) break;
    lines.push_back(spelled(row.old_tuple) + "-> " + spelled(row.new_tuple));
  }
  return lines;
}

TEST(RowShaper, LeavesColumnsOutAndAddsConstants) {
  const RowShaper shaper({2, 0}, {{ValueKind::kBinary, "eu"}, {ValueKind::kText, "7"}}, 3);
  proto::RowBlockBuilder builder(5, pb::INSERT);
  ASSERT_TRUE(builder.append(5, pb::INSERT, {{}, {binary("a"), binary("gone"), text("c")}}));
  ASSERT_TRUE(builder.append(5, pb::INSERT, {{}, {kNull, kNull, text("")}}));
  EXPECT_EQ(shaped(shaper, builder.finish(), 4),
            (std::vector<std::string>{"-> tc ba beu t7 ", "-> t n beu t7 "}));
}

TEST(RowShaper, OldRowsGetThemToo) {
  const RowShaper shaper({0}, {{ValueKind::kBinary, "eu"}}, 2);
  proto::RowBlockBuilder updates(5, pb::UPDATE_KEY);
  ASSERT_TRUE(updates.append(5, pb::UPDATE_KEY, {{binary("1"), kNull}, {binary("2"), kUnchanged}}));
  EXPECT_EQ(shaped(shaper, updates.finish(), 2), (std::vector<std::string>{"b1 beu -> b2 beu "}));
  proto::RowBlockBuilder deletes(5, pb::DELETE_KEY);
  ASSERT_TRUE(deletes.append(5, pb::DELETE_KEY, {{binary("1"), kNull}, {}}));
  EXPECT_EQ(shaped(shaper, deletes.finish(), 2), (std::vector<std::string>{"b1 beu -> "}));
}

TEST(RowShaper, UnchangedValuesStayUnchanged) {
  const RowShaper shaper({1}, {}, 2);
  proto::RowBlockBuilder builder(5, pb::UPDATE);
  ASSERT_TRUE(builder.append(5, pb::UPDATE, {{}, {binary("1"), kUnchanged}}));
  EXPECT_EQ(shaped(shaper, builder.finish(), 1), (std::vector<std::string>{"-> u "}));
}

TEST(RowShaper, MalformedRowsAreRefused) {
  const RowShaper shaper({0}, {}, 2);
  pb::Rows block;
  block.set_count(1);
  block.set_tuples("no tuple");
  EXPECT_FALSE(shaper.shape(block).ok());
}

}  // namespace
}  // namespace bitacora::apply
