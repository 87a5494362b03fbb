// A standby database of a case's own, with a session as the receiver makes it.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "apply/standby_session.h"
#include "engine/throwaway_cluster.h"
#include "tests/postgres/database.h"

namespace bitacora::apply {

template <class T>
testing::AssertionResult succeeded(const Result<T>& result) {
  if (result.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << one_line(result.error());
}

// For EXPECT_TRUE: it failed, and says all of these.
template <class T>
testing::AssertionResult refused(const Result<T>& result, const std::vector<std::string>& words) {
  if (result.ok()) return testing::AssertionFailure() << "no error";
  const auto said = result.error().message + "; " + result.error().hint;
  for (const auto& word : words) {
    if (said.find(word) == std::string::npos)
      return testing::AssertionFailure() << "no \"" << word << "\" in: " << said;
  }
  return testing::AssertionSuccess();
}

class StandbyFixture : public testing::Test {
 protected:
  StandbyFixture();
  explicit StandbyFixture(const engine::ThrowawayCluster& cluster);

  const std::string& conninfo() const { return conninfo_; }
  StandbySession& session() { return session_; }
  StandbySession connect(const std::string& role = "postgres") const;
  void execute(const std::string& sql) const { harness::execute(conninfo_, sql); }
  std::string value(const std::string& sql) const { return harness::query_value(conninfo_, sql); }
  std::string backend_pid() { return std::to_string(PQbackendPID(session_.connection())); }
  // What COPY ... TO STDOUT sends.
  std::string copied_out(const std::string& sql) const;
  // A role that may take the replica role and nothing else; dropped with what it has at the end.
  std::string limited_role();
  void TearDown() override;

 private:
  std::string conninfo_;
  StandbySession session_;
  std::string role_;
};

// A server of this version for all of the test binary's cases.
engine::ThrowawayCluster& cluster_of(int version);

}  // namespace bitacora::apply
