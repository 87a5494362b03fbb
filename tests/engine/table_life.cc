#include "tests/engine/table_life.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <exception>
#include <pqxx/pqxx>

#include "tests/postgres/database.h"

namespace bitacora::harness {
namespace {

std::string schema_of(std::size_t index) { return fmt::format("case_{}", index); }

void create_tables(const Pair& pair, const TableLife& life, const std::string& schema) {
  const auto create = [&](const std::string& conninfo, const std::string& sql) {
    pqxx::connection connection(in_schema(conninfo, schema));
    pqxx::nontransaction(connection).exec("CREATE SCHEMA " + schema + "; " + sql);
  };
  // The standby's first: the master may write at once.
  create(pair.standby(), life.standby_tables.empty() ? life.tables : life.standby_tables);
  create(pair.master(), life.tables);
}

void make_changes(const Pair& pair, const TableLife& life, const std::string& schema) {
  pqxx::connection connection(in_schema(pair.master(), schema));
  pqxx::nontransaction session(connection);
  for (const auto& change : life.changes) session.exec(change);
}

void expect_equal(const Pair& pair, const TableLife& life, const std::string& schema) {
  const auto master = in_schema(pair.master(), schema);
  const auto standby = in_schema(pair.standby(), schema);
  for (const auto& compared : life.compared) {
    EXPECT_EQ(sorted_rows(master, compared), sorted_rows(standby, compared)) << compared;
  }
  for (const auto& [query, answer] : life.standby_says) {
    EXPECT_EQ(query_value(standby, query), answer) << query;
  }
}

// False when the pair is of no use any more. What a step throws is a failure of its case.
bool step(const TableLife& life, const std::function<void()>& action) {
  SCOPED_TRACE(life.name);
  try {
    action();
    return true;
  } catch (const std::exception& e) {
    ADD_FAILURE() << e.what();
    return false;
  }
}

}  // namespace

std::string in_schema(const std::string& conninfo, const std::string& schema) {
  return fmt::format("{} options='-c search_path={},public -c TimeZone=UTC'", conninfo, schema);
}

std::string sorted_rows(const std::string& conninfo, const std::string& query) {
  constexpr int kBytesShown = 2000;
  const bool is_query = query.starts_with("SELECT");
  return query_value(conninfo,
                     fmt::format(R"(SELECT coalesce(string_agg(row, E'\n' ORDER BY row), '') FROM
                       (SELECT CASE WHEN length(row) <= {} THEN row
                                    ELSE left(row, 100) || '... digest ' || md5(row) END AS row
                          FROM (SELECT r::text COLLATE "C" AS row FROM {} AS r) AS texts) AS rows)",
                                 kBytesShown, is_query ? "(" + query + ")" : query));
}

void shift_oids(const std::string& conninfo) {
  execute(conninfo,
          "DO $$ BEGIN FOR i IN 1..50 LOOP"
          " CREATE TYPE shift AS ENUM ('a'); DROP TYPE shift; END LOOP; END $$");
}

// What a case says of sequences is about the changes.
PairOptions leaving_sequences(PairOptions options) {
  options.receiver_arguments.insert(options.receiver_arguments.end(),
                                    {"--sequences-interval", "0"});
  return options;
}

void run_live(Pair& pair, const std::vector<TableLife>& cases) {
  shift_oids(pair.standby());
  pair.start();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const bool applied = step(cases[i], [&] {
      create_tables(pair, cases[i], schema_of(i));
      make_changes(pair, cases[i], schema_of(i));
      pair.wait_applied();
      expect_equal(pair, cases[i], schema_of(i));
    });
    if (!applied) return;
  }
}

void run_live(const std::vector<TableLife>& cases, PairOptions options) {
  Pair pair(leaving_sequences(std::move(options)));
  run_live(pair, cases);
}

void run_backlog(const std::vector<TableLife>& cases, PairOptions options) {
  Pair pair(leaving_sequences(std::move(options)));
  shift_oids(pair.standby());
  pair.start_sender();
  pair.wait_for_slot();
  bool written = true;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    written &= step(cases[i], [&] { create_tables(pair, cases[i], schema_of(i)); });
  }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    written &= step(cases[i], [&] { make_changes(pair, cases[i], schema_of(i)); });
  }
  if (!written) return;
  pair.start_receiver();
  pair.wait_applied();
  for (std::size_t i = 0; i < cases.size(); ++i) {
    step(cases[i], [&] { expect_equal(pair, cases[i], schema_of(i)); });
  }
}

}  // namespace bitacora::harness
