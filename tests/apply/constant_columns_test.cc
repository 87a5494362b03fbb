#include "apply/constant_columns.h"

#include <gtest/gtest.h>

namespace bitacora::apply {
namespace {

std::string added(ConstantColumns& constants, const std::string& text, std::size_t piece_bytes) {
  std::string result;
  for (std::size_t at = 0; at < text.size(); at += piece_bytes)
    result += constants.added_to(std::string_view(text).substr(at, piece_bytes));
  return result;
}

TEST(ConstantColumns, EndEveryLineWhereverItIsCut) {
  ConstantColumns constants({"eu", "1"}, true);
  const std::string rows = "1\ta\\nb\n2\t\\N\n";
  for (std::size_t bytes = 1; bytes <= rows.size(); ++bytes)
    EXPECT_EQ(added(constants, rows, bytes), "1\ta\\nb\teu\t1\n2\t\\N\teu\t1\n") << bytes;
}

TEST(ConstantColumns, AloneTheyBeginTheLine) {
  ConstantColumns constants({"eu"}, false);
  EXPECT_EQ(added(constants, "\n\n", 2), "eu\neu\n");
}

TEST(ConstantColumns, AreEscaped) {
  ConstantColumns constants({"a\tb\nc\\d\re"}, true);
  EXPECT_EQ(added(constants, "1\n", 9), "1\ta\\tb\\nc\\\\d\\re\n");
}

TEST(ConstantColumns, NoneIsEmpty) { EXPECT_TRUE(ConstantColumns({}, true).empty()); }

}  // namespace
}  // namespace bitacora::apply
