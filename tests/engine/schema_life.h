// What happens in a schema, written as SQL in tests/engine/schemas: several sessions live it at the
// same time, round by round.
#pragma once

#include <atomic>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace bitacora::harness {

// The text of tests/engine/schemas/NAME.
std::string schema_sql(const std::string& name);

// With each :name replaced, as psql would.
std::string with_values(std::string sql, const std::map<std::string, std::string>& values);

struct LifeOptions {
  std::string conninfo;  // with the schema in its search_path
  std::string steps;  // "-- next" between two; "-- next of round 3" is session 0's, in that round
  int sessions = 4;
  int rounds = 6;  // of each session, at least
  int rows = 100;  // :rows
};

// Begins at once. What the server refuses as a step means it to (a constraint, a deadlock) is
// counted; anything else is thrown by wait().
class SchemaLife {
 public:
  explicit SchemaLife(LifeOptions options);
  SchemaLife(const SchemaLife&) = delete;
  SchemaLife& operator=(const SchemaLife&) = delete;
  ~SchemaLife() { abandoned_ = true; }  // waits for the steps that run

  // Until this is called the sessions go on beyond their rounds; afterwards each lives one more.
  void let_end() { over_ = true; }
  void wait();

  int rounds() const { return rounds_; }    // lived, by all sessions together
  int refused() const { return refused_; }  // steps that were rolled back

 private:
  struct Step {
    std::string sql;
    int only_round = 0;  // 0: of every round and session
  };

  void live(int session);
  void live_round(int session, int round);

  LifeOptions options_;
  std::vector<Step> steps_;
  std::atomic<bool> over_ = false;
  std::atomic<bool> abandoned_ = false;
  std::atomic<int> rounds_ = 0;
  std::atomic<int> refused_ = 0;
  std::mutex mutex_;
  std::string failure_;  // the first one; guarded by mutex_
  std::vector<std::jthread> threads_;
};

}  // namespace bitacora::harness
