#include "base/bytes.h"

#include <gtest/gtest.h>

#include <limits>

namespace bitacora {
namespace {

using namespace std::string_view_literals;

TEST(Bytes, IntegersAreInNetworkOrder) {
  std::string out;
  append_big_endian(out, std::uint8_t{0xAB});
  append_big_endian(out, std::int16_t{-2});
  append_big_endian(out, std::uint32_t{0x01020304});
  append_big_endian(out, std::int64_t{-1});
  EXPECT_EQ(out, "\xAB\xFF\xFE\x01\x02\x03\x04\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"sv);
}

template <class Integer>
void expect_round_trip() {
  for (const auto value : {std::numeric_limits<Integer>::min(), Integer{0}, Integer{1}, Integer{-1},
                           std::numeric_limits<Integer>::max()}) {
    std::string out;
    append_big_endian(out, value);
    ASSERT_EQ(out.size(), sizeof(Integer));
    EXPECT_EQ(load_big_endian<Integer>(out.data()), value);
    ByteReader reader(out);
    EXPECT_EQ(reader.integer<Integer>(), value);
    EXPECT_TRUE(reader.ok());
    EXPECT_TRUE(reader.empty());
  }
}

TEST(Bytes, SignedIntegersComeBack) {
  expect_round_trip<std::int8_t>();
  expect_round_trip<std::int16_t>();
  expect_round_trip<std::int32_t>();
  expect_round_trip<std::int64_t>();
}

TEST(ByteReader, ReadsForward) {
  ByteReader reader(
      "\x00\x07public\0"
      "datos\0rest"sv);
  EXPECT_EQ(reader.integer<std::uint16_t>(), 7);
  EXPECT_EQ(reader.c_string(), "public");
  EXPECT_EQ(reader.c_string(), "datos");
  EXPECT_EQ(reader.take(2), "re");
  EXPECT_EQ(reader.rest(), "st");
  EXPECT_EQ(reader.take(0), "");
  EXPECT_TRUE(reader.ok());
}

TEST(ByteReader, PastTheEndItStaysBrokenAndAnswersNothing) {
  struct Case {
    const char* name;
    void (*overread)(ByteReader&);
  };
  for (const Case& c : {
           Case{"integer", [](ByteReader& r) { EXPECT_EQ(r.integer<std::uint32_t>(), 0u); }},
           Case{"take", [](ByteReader& r) { EXPECT_EQ(r.take(4), ""); }},
           Case{"a size no buffer has",
                [](ByteReader& r) { EXPECT_EQ(r.take(~std::size_t{0}), ""); }},
           Case{"c_string without its zero", [](ByteReader& r) { EXPECT_EQ(r.c_string(), ""); }},
       }) {
    SCOPED_TRACE(c.name);
    ByteReader reader("abc");
    c.overread(reader);
    EXPECT_FALSE(reader.ok());
    EXPECT_EQ(reader.integer<std::uint8_t>(), 0) << "the bytes left are not read either";
    EXPECT_EQ(reader.take(0), "");
    EXPECT_FALSE(reader.ok());
  }
}

}  // namespace
}  // namespace bitacora
