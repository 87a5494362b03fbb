// Databases of different encodings and locales: what a row says is the same on both sides.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include "tests/engine/refusal.h"
#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

constexpr const char* kEncodings[] = {"UTF8", "LATIN1", "WIN1252"};
constexpr const char* kLocales[] = {"LOCALE_PROVIDER libc", "LOCALE_PROVIDER icu ICU_LOCALE 'es'",
                                    "LOCALE_PROVIDER icu ICU_LOCALE 'sv'"};

void make_anew(const engine::ThrowawayCluster& cluster, const std::string& name,
               const char* encoding, const char* locale) {
  execute(cluster.conninfo(), "DROP DATABASE " + name);
  execute(cluster.conninfo(), fmt::format("CREATE DATABASE {} ENCODING '{}' LOCALE 'C' {} TEMPLATE "
                                          "template0",
                                          name, encoding, locale));
}

// What we write here is UTF-8.
std::string in_utf8(const std::string& conninfo) { return conninfo + " client_encoding=UTF8"; }

void expect_equal(const Pair& pair) {
  EXPECT_EQ(table_content(in_utf8(pair.master()), "public.t"),
            table_content(in_utf8(pair.standby()), "public.t"));
}

constexpr const char* kTable =
    "CREATE TABLE t (word text PRIMARY KEY, upper_word text, padded char(10), list varchar(20)[])";

class Encodings : public testing::Test {
 protected:
  // The standby has the next encoding and the next locale.
  void expect_replicates(std::size_t encoding, std::size_t locale) {
    const auto name = fmt::format("{}_{}_{}", case_name(), encoding, locale);
    PairOptions options;
    options.name = name;
    Pair pair(options);
    make_anew(shared_master(), name, kEncodings[encoding], kLocales[locale]);
    make_anew(shared_standby(), name, kEncodings[(encoding + 1) % 3], kLocales[(locale + 1) % 3]);
    pair.on_both(kTable);
    pair.start();
    const auto master = in_utf8(pair.master());
    execute(master,
            "INSERT INTO t SELECT w, upper(w), w, ARRAY[w, 'Ñ'] FROM unnest(ARRAY['ñandú', 'Ñu', "
            "'niño', 'nino', 'árbol', 'arbol', 'zorro', 'straße', 'izquierda']) w");
    execute(master, "UPDATE t SET upper_word = lower(upper_word) WHERE word > 'n'");
    execute(master, "UPDATE t SET word = 'año' || word WHERE word LIKE 'ñ%'");
    execute(master, "DELETE FROM t WHERE word = 'nino'");
    pair.wait_applied();
    expect_equal(pair);
    EXPECT_EQ(query_value(in_utf8(pair.standby()), "SELECT count(*) FROM t WHERE word = 'niño'"),
              "1");
    pair.stop();
  }
};

TEST_F(Encodings, ThreeTimesThreeLocales) {
  for (std::size_t encoding = 0; encoding < std::size(kEncodings); ++encoding) {
    for (std::size_t locale = 0; locale < std::size(kLocales); ++locale) {
      SCOPED_TRACE(fmt::format("{} {}", kEncodings[encoding], kLocales[locale]));
      expect_replicates(encoding, locale);
    }
  }
}

TEST_F(Encodings, WhatTheStandbyCannotHoldStops) {
  Pair pair;
  make_anew(shared_standby(), pair.name(), "LATIN1", kLocales[0]);
  pair.on_both(kTable);
  pair.start();
  pair.wait_applied();
  execute(in_utf8(pair.master()), "INSERT INTO t (word) VALUES ('漢字')");
  ASSERT_TRUE(pair.receiver().wait(std::chrono::seconds(20)).has_value()) << pair.story();
  expect_ends_refused(pair.receiver(), 5, {"public.t", "LATIN1"});
  EXPECT_EQ(query_value(pair.standby(), "SELECT count(*) FROM t"), "0");
}

}  // namespace
}  // namespace bitacora::harness
