#include "bench/database_copy.h"

#include <fmt/format.h>

#include <pqxx/pqxx>
#include <utility>

#include "tests/postgres/database.h"

namespace bitacora::bench {
namespace {

constexpr const char* kMaintenance = "postgres";
constexpr int kStrategySince = 150000;  // server version; before, files were always copied

}  // namespace

std::string in_database(const std::string& conninfo, const std::string& database) {
  return fmt::format("{} dbname={}", conninfo, database);
}

DatabaseCopy::DatabaseCopy(const std::string& start, std::string name)
    : start_(start), name_(std::move(name)), conninfo_(in_database(start, name_)) {
  const auto from = harness::query_value(start, "SELECT quote_ident(current_database())");
  pqxx::connection connection(in_database(start, kMaintenance));
  pqxx::nontransaction session(connection);
  session.exec("SET client_min_messages = warning");  // no word about what does not exist yet
  session.exec(fmt::format("DROP DATABASE IF EXISTS {} WITH (FORCE)", name_));
  session.exec(
      fmt::format("CREATE DATABASE {} TEMPLATE {}{}", name_, from,
                  connection.server_version() >= kStrategySince ? " STRATEGY file_copy" : ""));
}

DatabaseCopy::~DatabaseCopy() {
  try {
    harness::execute(in_database(start_, kMaintenance),
                     fmt::format("DROP DATABASE {} WITH (FORCE)", name_));
  } catch (const std::exception&) {  // the server is gone
  }
}

}  // namespace bitacora::bench
