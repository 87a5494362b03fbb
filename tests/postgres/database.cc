#include "tests/postgres/database.h"

#include <fmt/format.h>

#include <pqxx/pqxx>
#include <stdexcept>
#include <thread>

namespace bitacora::harness {
namespace {

// Nothing a server, a database or a role may have set shows in the text of a value.
constexpr const char* kPinnedSettings = R"(
  SET DateStyle = ISO; SET IntervalStyle = postgres; SET TimeZone = UTC; SET extra_float_digits = 1;
  SET bytea_output = hex; SET xmloption = content; SET search_path = ''; SET client_encoding = UTF8)";

std::string only_value(const pqxx::result& rows, const std::string& sql) {
  if (rows.empty()) throw std::runtime_error("no row from: " + sql);
  return rows[0][0].is_null() ? "" : rows[0][0].as<std::string>();
}

}  // namespace

void execute(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  pqxx::nontransaction(connection).exec(sql);
}

std::string query_value(const std::string& conninfo, const std::string& sql) {
  pqxx::connection connection(conninfo);
  return only_value(pqxx::nontransaction(connection).exec(sql), sql);
}

std::string table_content(const std::string& conninfo, const std::string& table) {
  constexpr int kRowsShown = 500;
  pqxx::connection connection(conninfo);
  pqxx::nontransaction session(connection);
  session.exec(kPinnedSettings);
  const auto sql = fmt::format(
      R"(SELECT CASE WHEN count(*) <= {}
                     THEN coalesce(string_agg(row, E'\n' ORDER BY row), '')
                     ELSE format('%s rows, digest %s', count(*), md5(string_agg(md5(row), '' ORDER BY row)))
                END
           FROM (SELECT t::text COLLATE "C" AS row FROM {} AS t) AS rows)",
      kRowsShown, table);
  return only_value(session.exec(sql), sql);
}

bool eventually(const std::function<bool()>& predicate, std::chrono::milliseconds timeout) {
  constexpr std::chrono::milliseconds kPoll{5};
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  for (;;) {
    if (predicate()) return true;
    if (std::chrono::steady_clock::now() >= deadline) return false;
    std::this_thread::sleep_for(kPoll);
  }
}

std::string fresh_database(const engine::ThrowawayCluster& cluster, const std::string& name) {
  pqxx::connection connection(cluster.conninfo());
  pqxx::nontransaction session(connection);
  const auto quoted = session.quote_name(name);
  session.exec("SET client_min_messages = warning");  // no word about what does not exist yet
  session.exec("DROP DATABASE IF EXISTS " + quoted + " WITH (FORCE)");
  session.exec("CREATE DATABASE " + quoted);
  return cluster.conninfo(name);
}

}  // namespace bitacora::harness
