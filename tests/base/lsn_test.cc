#include "base/lsn.h"

#include <gtest/gtest.h>

#include <type_traits>

namespace bitacora {
namespace {

static_assert(!std::is_convertible_v<MasterLsn, StandbyLsn>);
static_assert(!std::is_convertible_v<std::uint64_t, MasterLsn>);

TEST(Lsn, TextFormIsThatOfPostgres) {
  struct Case {
    std::uint64_t value;
    const char* text;
  };
  for (const Case& c : {
           Case{0, "0/0"},
           Case{1, "0/1"},
           Case{0x16'B374'D848, "16/B374D848"},
           Case{0x1'0000'0000, "1/0"},
           Case{0xFFFF'FFFF, "0/FFFFFFFF"},
           Case{~std::uint64_t{0}, "FFFFFFFF/FFFFFFFF"},
       }) {
    SCOPED_TRACE(c.text);
    EXPECT_EQ(format_lsn(c.value), c.text);
    EXPECT_EQ(parse_lsn(c.text), c.value);
  }
  EXPECT_EQ(parse_lsn("16/b374d848"), 0x16'B374'D848u) << "lower case is read too";
}

TEST(Lsn, WhatIsNoPositionIsRefused) {
  for (const char* text : {"", "/", "0", "0/", "/0", "0/0/0", "0/G", "x/0", "-1/0", "0/-1", " 0/0",
                           "0/0 ", "0x1/0", "100000000/0", "0/100000000", "16/B374D848\n"}) {
    SCOPED_TRACE(text);
    EXPECT_EQ(parse_lsn(text), std::nullopt);
  }
}

TEST(Lsn, PositionsCompareAndMeasure) {
  const MasterLsn low{0x100};
  const MasterLsn high{0x180};
  EXPECT_LT(low, high);
  EXPECT_EQ(bytes_between(low, high), 0x80u);
  EXPECT_EQ(bytes_between(high, low), 0u) << "never negative";
  EXPECT_FALSE(MasterLsn{}.valid());
  EXPECT_TRUE(low.valid());
  EXPECT_EQ(to_string(StandbyLsn{0x2'0000'00FF}), "2/FF");
}

}  // namespace
}  // namespace bitacora
