#include "base/name_pattern.h"

#include <gtest/gtest.h>

namespace bitacora {
namespace {

TEST(Wildcard, StarIsAnyRunAndQuestionMarkOneCharacter) {
  struct Case {
    const char* pattern;
    const char* text;
    bool matches;
  };
  for (const Case& c : {
           Case{"", "", true},
           Case{"", "a", false},
           Case{"*", "", true},
           Case{"*", "anything", true},
           Case{"?", "", false},
           Case{"?", "a", true},
           Case{"?", "ab", false},
           Case{"datos", "datos", true},
           Case{"datos", "Datos", false},
           Case{"datos", "datos2", false},
           Case{"da*", "da", true},
           Case{"*os", "datos", true},
           Case{"*os", "dato", false},
           Case{"*a*b*", "xxaxxbxx", true},
           Case{"*a*b*", "xxbxxaxx", false},
           Case{"a*ab", "aaab", true},
           Case{"a**b", "ab", true},
           Case{"log_????", "log_2024", true},
           Case{"log_????", "log_202", false},
           Case{"a?o", "año", true},
           Case{"a??o", "año", false},
           Case{"*?", "ñ", true},
           Case{"*??", "€", false},
           Case{"a.b", "axb", false},
           Case{"[ab]", "a", false},
           Case{"*", "*", true},
           Case{"a*********************b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaac", false},
       }) {
    SCOPED_TRACE(std::string(c.pattern) + " on " + c.text);
    EXPECT_EQ(matches_wildcard(c.pattern, c.text), c.matches);
  }
}

struct Table {
  const char* schema;
  const char* name;
  bool shipped;
};

TEST(TablePatterns, IncludeAndExclude) {
  struct Case {
    const char* name;
    std::vector<std::string> patterns;
    bool everything;
    std::vector<Table> tables;
  };
  for (const Case& c : {
           Case{"none means all", {}, true, {{"public", "a", true}, {"s", "b", true}}},
           Case{"*.* means all", {"*.*"}, true, {{"s", "b", true}}},
           Case{"* means all", {"*"}, true, {{"s", "b", true}}},
           Case{"*.* beside others", {"public.a", "*.*"}, true, {{"s", "b", true}}},
           Case{"*.* but one",
                {"*.*", "!public.a"},
                false,
                {{"public", "a", false}, {"s", "a", true}}},
           Case{"only an exclusion", {"!log*"}, false, {{"s", "log1", false}, {"s", "b", true}}},
           Case{
               "one schema", {"public.*"}, false, {{"public", "a", true}, {"publica", "a", false}}},
           Case{"any schema", {"datos"}, false, {{"s", "datos", true}, {"datos", "x", false}}},
           Case{"exclusion wins in any order",
                {"!s.secret", "s.*"},
                false,
                {{"s", "secret", false}, {"s", "open", true}, {"t", "open", false}}},
           Case{"several inclusions", {"a.x", "b.y"}, false, {{"a", "x", true}, {"a", "y", false}}},
           Case{"a part in double quotes stands for itself",
                {R"("a.b".*)", R"(s."*")", R"("t"."a?""b")"},
                false,
                {{"a.b", "c", true},
                 {"a", "b.c", false},
                 {"s", "*", true},
                 {"s", "x", false},
                 {"t", "a?\"b", true},
                 {"t", "ax\"b", false}}},
           Case{"quotes exclude, in any schema",
                {"*", R"(!"a.b")", R"(!"x!"."y")"},
                false,
                {{"s", "a.b", false}, {"a", "b", true}, {"x!", "y", false}}},
           Case{"quoted stars are not everything", {R"(*."*")"}, false, {{"s", "a", false}}},
           Case{"a quote within stands for itself", {"s.a\"b"}, false, {{"s", "a\"b", true}}},
           Case{"everything excluded", {"!*.*"}, false, {{"public", "a", false}}},
       }) {
    SCOPED_TRACE(c.name);
    const auto patterns = TablePatterns::parse(c.patterns);
    ASSERT_TRUE(patterns.ok()) << patterns.error().message;
    EXPECT_EQ(patterns->matches_everything(), c.everything);
    for (const auto& table : c.tables) {
      EXPECT_EQ(patterns->matches(table.schema, table.name), table.shipped)
          << table.schema << "." << table.name;
    }
  }
}

TEST(TablePatterns, WhatIsNoPatternIsRefusedWithAHint) {
  for (const char* text :
       {"", "!", ".", "public.", ".datos", "a.b.c", "!a.b.c", "a..b", R"("a)", R"(s."a)",
        R"("a"b.c)", R"("".a)", R"(s."")", R"(s."a"b)", R"(s."a".b)", R"("a".)"}) {
    SCOPED_TRACE(text);
    const auto patterns = TablePatterns::parse({"public.*", text});
    ASSERT_FALSE(patterns.ok());
    EXPECT_EQ(patterns.error().code, ErrorCode::kUsage);
    EXPECT_NE(patterns.error().message.find("\"" + std::string(text) + "\""), std::string::npos);
    EXPECT_FALSE(patterns.error().hint.empty());
  }
}

TEST(TablePatterns, SaysWhichPatternsMatchNothing) {
  const auto patterns = TablePatterns::parse({"shop.*", "shop.nothing", "!audit.*", "!log"});
  ASSERT_TRUE(patterns.ok());
  EXPECT_EQ(patterns->unmatched({{"shop", "orders"}, {"public", "log"}}),
            (std::vector<std::string>{"shop.nothing", "!audit.*"}));
}

TEST(TablePatterns, KnowsTablesAskedForByName) {
  const auto patterns =
      TablePatterns::parse({"shop.*", "shop.orders", "log", "!audit.secret", R"("a.b"."*")"});
  ASSERT_TRUE(patterns.ok());
  EXPECT_EQ(patterns->named(),
            (std::vector<TablePatterns::Name>{{"shop", "orders"}, {"a.b", "*"}}));
}

}  // namespace
}  // namespace bitacora
