#include "tests/engine/schema_life.h"

#include <exception>
#include <fstream>
#include <pqxx/pqxx>
#include <sstream>
#include <stdexcept>
#include <string_view>

namespace bitacora::harness {
namespace {

constexpr int kTriesMax = 5;

// Exclusion, uniqueness, a foreign key whose row another session has just deleted.
bool is_refusal(const std::string& state) {
  return state == "23P01" || state == "23505" || state == "23503";
}

// False when it was rolled back.
bool run_step(pqxx::connection& connection, const std::string& sql) {
  for (int tries = 1;; ++tries) {
    pqxx::nontransaction session(connection);
    try {
      session.exec(sql);
      return true;
    } catch (const pqxx::transaction_rollback&) {  // a deadlock: once more
      session.exec("ROLLBACK");
      if (tries == kTriesMax) return false;
    } catch (const pqxx::sql_error& e) {
      session.exec("ROLLBACK");
      if (is_refusal(e.sqlstate())) return false;
      throw std::runtime_error(std::string(e.what()) + "\nin: " + sql);
    }
  }
}

}  // namespace

std::string schema_sql(const std::string& name) {
  const auto path = std::string(BITACORA_SCHEMAS_DIR) + "/" + name;
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string with_values(std::string sql, const std::map<std::string, std::string>& values) {
  for (const auto& [name, value] : values) {
    const auto variable = ":" + name;
    for (auto at = sql.find(variable); at != std::string::npos; at = sql.find(variable, at))
      sql.replace(at, variable.size(), value);
  }
  return sql;
}

SchemaLife::SchemaLife(LifeOptions options) : options_(std::move(options)) {
  static constexpr std::string_view kNext = "-- next";
  static constexpr std::string_view kOfRound = " of round ";
  std::istringstream lines(options_.steps);
  steps_.emplace_back();
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(kNext)) {
      const auto rest = line.substr(kNext.size());
      steps_.push_back(
          {"", rest.starts_with(kOfRound) ? std::stoi(rest.substr(kOfRound.size())) : 0});
    } else if (!line.starts_with("--")) {
      steps_.back().sql += line + "\n";
    }
  }
  for (int session = 0; session < options_.sessions; ++session)
    threads_.emplace_back([this, session] { live(session); });
}

void SchemaLife::wait() {
  for (auto& thread : threads_) thread.join();
  threads_.clear();
  const std::lock_guard lock(mutex_);
  if (!failure_.empty()) throw std::runtime_error(failure_);
}

void SchemaLife::live(int session) {
  try {
    int round = 1;
    for (; (round <= options_.rounds || !over_) && !abandoned_; ++round) live_round(session, round);
    live_round(session, round);
  } catch (const std::exception& e) {
    const std::lock_guard lock(mutex_);
    if (failure_.empty()) failure_ = e.what();
  }
}

void SchemaLife::live_round(int session, int round) {
  pqxx::connection connection(options_.conninfo);
  // Deadlocks are a part of it; words about what is not there, or not open, are not.
  pqxx::nontransaction(connection)
      .exec("SET deadlock_timeout = '20ms'; SET client_min_messages = error");
  for (const auto& step : steps_) {
    if (abandoned_) return;
    if (step.only_round != 0 && (step.only_round != round || session != 0)) continue;
    const auto sql = with_values(step.sql, {{"session", std::to_string(session)},
                                            {"round", std::to_string(round)},
                                            {"rows", std::to_string(options_.rows)}});
    if (!run_step(connection, sql)) ++refused_;
  }
  ++rounds_;
}

}  // namespace bitacora::harness
