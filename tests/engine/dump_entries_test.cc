#include "engine/dump_entries.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

namespace bitacora::engine {
namespace {

std::string head(int id, const std::string& names, const std::string& dependencies = "") {
  return fmt::format(
      "--\n-- TOC entry {} (class 1259 OID {})\n{}-- {}; Owner: -\n-- Data Pos: 0\n--\n\n", id,
      id + 1000, dependencies.empty() ? "" : "-- Dependencies: " + dependencies + "\n", names);
}

constexpr const char* kPreamble =
    "--\n-- PostgreSQL database dump\n--\n\n\\restrict abc\n\n-- Dumped from database version "
    "15\n\n"
    "SET statement_timeout = 0;\nSELECT pg_catalog.set_config('search_path', '', false);\n\n";
constexpr const char* kTrailer =
    "-- Completed on 2026-11-27 10:16:46 UTC\n\n--\n-- PostgreSQL database dump complete\n--\n\n"
    "\\unrestrict abc\n\n";

std::vector<DumpEntry> cut(const std::string& entries) {
  auto done = cut_dump(kPreamble + entries + kTrailer);
  EXPECT_TRUE(done.ok());
  return done.ok() ? *done : std::vector<DumpEntry>{};
}

TEST(DumpEntries, AreCutAtTheirHeads) {
  const auto entries =
      cut(head(7, "Name: s; Type: SCHEMA; Schema: -") + "CREATE SCHEMA s;\n\n\n" +
          head(9, "Name: a; b; Type: TABLE; Type: FK CONSTRAINT; Schema: s", "7 12 12") +
          "ALTER TABLE s.t\n    ADD x;\n\n");
  ASSERT_EQ(entries.size(), 2u);
  EXPECT_EQ(entries[0].id, 7);
  EXPECT_EQ(entries[0].catalog, 1259u);
  EXPECT_EQ(entries[0].oid, 1007u);
  EXPECT_EQ(entries[0].entry.type(), "SCHEMA");
  EXPECT_EQ(entries[0].entry.schema(), "");
  EXPECT_EQ(entries[0].entry.name(), "s");
  EXPECT_EQ(entries[0].entry.sql(), "CREATE SCHEMA s;");
  EXPECT_EQ(entries[1].entry.type(), "FK CONSTRAINT");
  EXPECT_EQ(entries[1].entry.schema(), "s");
  EXPECT_EQ(entries[1].entry.name(), "a; b; Type: TABLE");
  EXPECT_EQ(entries[1].dependencies, (std::vector<int>{7, 12, 12}));
  EXPECT_EQ(entries[1].entry.sql(), "ALTER TABLE s.t\n    ADD x;");
}

// What a master's user writes into a function, a comment or a name begins no entry.
TEST(DumpEntries, AHeadInsideOfQuotesIsNone) {
  const auto inner = head(8, "Name: x; Type: TABLE; Schema: -") + "DROP DATABASE d;\n" + kTrailer;
  struct Case {
    std::string name;
    std::string sql;
  };
  const std::vector<Case> cases{
      {"a dollar-quoted body", "CREATE FUNCTION f() AS $$\n" + inner + "$$;"},
      {"a tagged body", "CREATE FUNCTION f() AS $_X1$ $$\n" + inner + "$_X$ $_X1$;"},
      {"a literal", "COMMENT ON TABLE t IS 'it''s\n" + inner + "';"},
      {"an escaped literal", "COMMENT ON TABLE t IS E'\\'\\\\\n" + inner + "';"},
      {"a name", "CREATE TABLE \"a\"\"\n" + inner + "\" ();"},
      {"a backslash at a literal's end", "COMMENT ON TABLE t IS 'x\\'; SELECT '\n" + inner + "';"},
      {"a type's name before a literal", "SELECT date'\n" + inner + "\\';"},
      {"a comment", "/* \n" + inner + " */ SELECT $1, a$b$ FROM t;"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const auto entries = cut(head(7, "Name: f; Type: FUNCTION; Schema: -") + c.sql + "\n\n\n" +
                             head(9, "Name: t; Type: TABLE; Schema: -") + "CREATE TABLE t ();\n");
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].entry.sql(), c.sql);
    EXPECT_EQ(entries[1].entry.sql(), "CREATE TABLE t ();");
  }
}

TEST(DumpEntries, SettingsGoWithTheTablesTheyAreFor) {
  const auto entries =
      cut(head(1, "Name: s; Type: SCHEMA; Schema: -") +
          "CREATE SCHEMA s;\n\n\nSET default_tablespace = '';\n\nSET default_table_access_method = "
          "heap;\n\n" +
          head(2, "Name: t; Type: TABLE; Schema: -") +
          "CREATE TABLE t ();\n\n\nSET default_table_access_method = column_store;\n\n" +
          head(3, "Name: c; Type: TABLE; Schema: -") + "CREATE TABLE c ();\n\n\n" +
          head(4, "Name: i; Type: INDEX; Schema: -") + "CREATE INDEX i;\n\n");
  ASSERT_EQ(entries.size(), 4u);
  EXPECT_EQ(entries[0].entry.sql(), "CREATE SCHEMA s;");
  EXPECT_EQ(entries[1].entry.sql(), "CREATE TABLE t ();");
  EXPECT_EQ(entries[2].entry.sql(),
            "SET default_table_access_method = column_store;\nCREATE TABLE c ();\n"
            "RESET default_table_access_method;");
  EXPECT_EQ(entries[3].entry.sql(), "CREATE INDEX i;");
}

TEST(DumpEntries, AnEntryWithoutAStatementIsNone) {
  const auto entries = cut(head(5, "Name: public; Type: SCHEMA; Schema: -") +
                           "-- *not* creating schema, since initdb creates it\n\n\n");
  EXPECT_TRUE(entries.empty());
  EXPECT_TRUE(cut("").empty());
}

TEST(DumpEntries, WhatCannotBeUnderstoodIsAnError) {
  const std::vector<std::string> texts{
      head(1, "Name: t; Type: TABLE; Schema: -") + "CREATE TABLE \"t ();\n",
      head(1, "Name: t; Type: TABLE; Schema: -") + "AS $$ BEGIN $x$;\n",
      "--\n-- TOC entry 1 (class x OID 2)\n-- Name: t; Type: T; Schema: -; Owner: -\n--\n\n",
      head(1, "Names: t; Type: TABLE; Schema: -"),
  };
  for (const auto& text : texts) {
    SCOPED_TRACE(text);
    const auto done = cut_dump(text);
    ASSERT_FALSE(done.ok());
    EXPECT_EQ(done.error().code, ErrorCode::kMaster);
  }
}

}  // namespace
}  // namespace bitacora::engine
