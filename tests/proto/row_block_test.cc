#include "proto/row_block.h"

#include <gtest/gtest.h>

#include <random>

namespace bitacora::proto {
namespace {

constexpr std::uint32_t kRelation = 16385;
constexpr std::uint64_t kSeed = 20240611;

Value binary(std::string_view bytes) { return {ValueKind::kBinary, bytes}; }
Value text(std::string_view bytes) { return {ValueKind::kText, bytes}; }
const Value kNull{ValueKind::kNull};
const Value kUnchanged{ValueKind::kUnchanged};

// One character per value with its bytes, to compare and to read.
std::string describe(const Tuple& tuple) {
  std::string out;
  for (const Value& value : tuple) {
    out += static_cast<char>(value.kind);
    out += '(' + std::string(value.bytes) + ')';
  }
  return out;
}

std::string describe(const Row& row) {
  return describe(row.old_tuple) + " -> " + describe(row.new_tuple);
}

pb::Rows block_of(pb::RowOperation operation, const std::vector<Row>& rows) {
  RowBlockBuilder builder(kRelation, operation);
  for (const Row& row : rows) EXPECT_TRUE(builder.append(kRelation, operation, row));
  EXPECT_EQ(builder.count(), rows.size());
  return builder.finish();
}

// All rows of a block, or the error that stopped the reading.
Result<std::vector<std::string>> read_all(const pb::Rows& block, std::size_t columns) {
  std::vector<std::string> rows;
  RowBlockReader reader(block, columns);
  Row row;
  while (!reader.done()) {
    RETURN_IF_ERROR(reader.next(row));
    rows.push_back(describe(row));
  }
  return rows;
}

void expect_malformed(const pb::Rows& block, std::size_t columns, std::string_view why) {
  const auto rows = read_all(block, columns);
  ASSERT_FALSE(rows.ok());
  EXPECT_EQ(rows.error().code, ErrorCode::kNetwork);
  EXPECT_NE(rows.error().message.find("relation 16385"), std::string::npos);
  EXPECT_NE(rows.error().message.find(why), std::string::npos) << rows.error().message;
}

struct RoundTrip {
  const char* name;
  pb::RowOperation operation;
  std::size_t columns;
  std::vector<Row> rows;
  const char* formats;
};

const std::vector<RoundTrip>& round_trips() {
  static const std::vector<RoundTrip> kCases{
      {"insert", pb::INSERT, 2, {{{}, {binary("a"), binary("bc")}}, {{}, {binary(""), kNull}}}, ""},
      {"insert as text", pb::INSERT, 2, {{{}, {text("1"), text("x")}}}, "tt"},
      {"binary and text", pb::INSERT, 2, {{{}, {binary("1"), text("x")}}}, "bt"},
      {"only NULL", pb::INSERT, 2, {{{}, {kNull, kNull}}, {{}, {kNull, kNull}}}, ""},
      {"NULL first, text later", pb::INSERT, 1, {{{}, {kNull}}, {{}, {text("t")}}}, "t"},
      {"no value in a column", pb::INSERT, 2, {{{}, {kNull, text("t")}}}, "nt"},
      {"no columns", pb::INSERT, 0, {{{}, {}}, {{}, {}}, {{}, {}}}, ""},
      {"update",
       pb::UPDATE,
       2,
       {{{}, {binary("k"), kUnchanged}}, {{}, {binary("k"), text("v")}}},
       "bt"},
      {"key change", pb::UPDATE_KEY, 2, {{{binary("k"), kNull}, {binary("l"), kUnchanged}}}, ""},
      {"full update",
       pb::UPDATE_FULL,
       2,
       {{{text("k"), text("v")}, {text("k"), kNull}}, {{text("l"), kNull}, {kNull, text("w")}}},
       "tt"},
      {"delete by key",
       pb::DELETE_KEY,
       2,
       {{{binary("k"), kNull}, {}}, {{binary("l"), kNull}, {}}},
       ""},
      {"full delete", pb::DELETE_FULL, 2, {{{binary("k"), kNull}, {}}}, ""},
  };
  return kCases;
}

TEST(RowBlock, EveryOperationComesBack) {
  for (const auto& c : round_trips()) {
    SCOPED_TRACE(c.name);
    const auto block = block_of(c.operation, c.rows);
    EXPECT_EQ(block.relation_oid(), kRelation);
    EXPECT_EQ(block.operation(), c.operation);
    EXPECT_EQ(block.formats(), c.formats);
    const auto rows = read_all(block, c.columns);
    ASSERT_TRUE(rows.ok()) << rows.error().message;
    ASSERT_EQ(rows->size(), c.rows.size());
    for (std::size_t i = 0; i < c.rows.size(); ++i) EXPECT_EQ(rows->at(i), describe(c.rows[i]));
  }
}

TEST(RowBlock, TheTupleOfTheOtherSideIsNotShipped) {
  const auto block = block_of(pb::INSERT, {{{text("ignored")}, {binary("a"), binary("b")}}});
  EXPECT_EQ(read_all(block, 2).value(), std::vector<std::string>{" -> b(a)b(b)"});
}

TEST(RowBlockBuilder, OneRelationAndOneOperation) {
  RowBlockBuilder builder(kRelation, pb::INSERT);
  const Row row{{}, {kNull}};
  EXPECT_TRUE(builder.append(kRelation, pb::INSERT, row));
  EXPECT_FALSE(builder.append(kRelation + 1, pb::INSERT, row));
  EXPECT_FALSE(builder.append(kRelation, pb::UPDATE, row));
  EXPECT_EQ(builder.count(), 1u);
}

TEST(RowBlockBuilder, WhatDoesNotFitBeginsANewBlock) {
  struct Case {
    const char* name;
    Row row;
    bool fits;
  };
  // The block so far holds the key change (binary, NULL) -> (NULL, NULL).
  for (const Case& c : {
           Case{"the same formats", {{binary("a"), kNull}, {binary("b"), kNull}}, true},
           Case{"no bytes at all", {{kNull, kNull}, {kUnchanged, kNull}}, true},
           Case{"text where nothing was", {{binary("a"), kNull}, {kNull, text("t")}}, true},
           Case{"text where binary was", {{text("a"), kNull}, {kNull, kNull}}, false},
           Case{"text in the new tuple", {{kNull, kNull}, {text("a"), kNull}}, false},
           Case{"fewer columns", {{kNull}, {kNull}}, false},
           Case{"more columns", {{kNull, kNull, kNull}, {kNull, kNull, kNull}}, false},
           Case{"a tuple missing", {{}, {kNull, kNull}}, false},
       }) {
    SCOPED_TRACE(c.name);
    RowBlockBuilder builder(kRelation, pb::UPDATE_KEY);
    ASSERT_TRUE(builder.append(kRelation, pb::UPDATE_KEY, {{binary("k"), kNull}, {kNull, kNull}}));
    const auto bytes_before = builder.bytes();
    EXPECT_EQ(builder.append(kRelation, pb::UPDATE_KEY, c.row), c.fits);
    EXPECT_EQ(builder.bytes() > bytes_before, c.fits);
    const auto rows = read_all(builder.finish(), 2);
    ASSERT_TRUE(rows.ok()) << rows.error().message;
    EXPECT_EQ(rows->size(), c.fits ? 2u : 1u);
  }
}

TEST(RowBlockBuilder, ARowThatContradictsItselfFitsNowhere) {
  struct Case {
    const char* name;
    Row row;
  };
  for (const Case& c : {
           Case{"two formats in one column", {{text("a")}, {binary("a")}}},
           Case{"old and new of different width", {{binary("a")}, {binary("a"), kNull}}},
           Case{"old tuple missing", {{}, {binary("a")}}},
       }) {
    SCOPED_TRACE(c.name);
    RowBlockBuilder builder(kRelation, pb::UPDATE_FULL);
    EXPECT_FALSE(builder.append(kRelation, pb::UPDATE_FULL, c.row));
    EXPECT_EQ(builder.count(), 0u);
    EXPECT_EQ(builder.bytes(), 0u);
  }
}

TEST(RowBlockReader, ABlockCutAnywhereIsMalformed) {
  for (const auto& c : round_trips()) {
    SCOPED_TRACE(c.name);
    const auto whole = block_of(c.operation, c.rows);
    for (std::size_t size = 0; size < whole.tuples().size(); ++size) {
      SCOPED_TRACE(size);
      auto cut = whole;
      cut.mutable_tuples()->resize(size);
      expect_malformed(cut, c.columns, "");
    }
  }
}

TEST(RowBlockReader, WhatDoesNotAddUpIsMalformed) {
  struct Case {
    const char* name;
    void (*bend)(pb::Rows&);
    const char* why;
  };
  // Two rows of (binary "a", text "b"): 2 + 5 + 5 bytes each.
  for (const Case& c : {
           Case{"a byte more", [](auto& b) { b.mutable_tuples()->push_back('x'); },
                "after the last"},
           Case{"fewer rows", [](auto& b) { b.set_count(1); }, "after the last"},
           Case{"more rows", [](auto& b) { b.set_count(3); }, "column count"},
           Case{"most rows", [](auto& b) { b.set_count(0xFFFFFFFF); }, "column count"},
           Case{"another column count", [](auto& b) { b.mutable_tuples()->at(1) = 3; },
                "column count"},
           Case{"length -3", [](auto& b) { b.mutable_tuples()->replace(2, 4, "\xFF\xFF\xFF\xFD"); },
                "a negative length"},
           Case{"longest length",
                [](auto& b) { b.mutable_tuples()->replace(2, 4, "\x7F\xFF\xFF\xFF"); },
                "end inside a tuple"},
           Case{"formats for one column", [](auto& b) { b.set_formats("b"); }, "differ in number"},
           Case{"formats for three columns", [](auto& b) { b.set_formats("btb"); },
                "differ in number"},
           Case{"a value where none was said to be", [](auto& b) { b.set_formats("nt"); },
                "without a format"},
           Case{"an unknown format", [](auto& b) { b.set_formats("bx"); }, "without a format"},
           Case{"an unknown operation",
                [](auto& b) { b.set_operation(static_cast<pb::RowOperation>(17)); },
                "unknown operation"},
       }) {
    SCOPED_TRACE(c.name);
    auto block = block_of(pb::INSERT, {{{}, {binary("a"), text("b")}}, {{}, {kNull, text("b")}}});
    c.bend(block);
    expect_malformed(block, 2, c.why);
  }
}

TEST(RowBlockReader, AnotherRelationsBlockIsMalformed) {
  const auto block = block_of(pb::INSERT, {{{}, {binary("a"), binary("b")}}});
  expect_malformed(block, 0, "column count");
  expect_malformed(block, 1, "column count");
  expect_malformed(block, 3, "column count");
}

TEST(RowBlockReader, RandomMutationsNeverReadOutside) {
  std::mt19937_64 random(kSeed);
  int refused = 0;
  for (int round = 0; round < 20000; ++round) {
    const auto& c = round_trips()[random() % round_trips().size()];
    auto bytes = block_of(c.operation, c.rows).SerializeAsString();
    for (auto flips = random() % 4 + 1; flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    pb::Rows block;
    if (!block.ParseFromString(bytes)) continue;
    if (!read_all(block, c.columns).ok()) ++refused;
  }
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace bitacora::proto
