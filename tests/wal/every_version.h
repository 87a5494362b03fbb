// Cases that run on each PostgreSQL version, in a database of their own on a server shared by all
// of the test binary's cases.
#pragma once

#include <string>

#include <gtest/gtest.h>

#include "engine/throwaway_cluster.h"
#include "tests/postgres/servers.h"
#include "wal/master_session.h"

namespace bitacora::wal {

// Skips when the version is not installed. Afterwards no slot of the case's database is left.
class EveryVersion : public testing::TestWithParam<int> {
 protected:
  void SetUp() override;
  void TearDown() override;

  // 14, 15, ...
  static int version() { return GetParam(); }
  static engine::ThrowawayCluster& cluster();

  const std::string& conninfo() const { return conninfo_; }
  MasterSession& master() { return *master_; }

  // One or more statements, in this order, each in a transaction of its own unless they say
  // otherwise.
  void sql(const std::string& statements) const;
  std::string value(const std::string& query) const;

 private:
  std::string conninfo_;
  std::unique_ptr<MasterSession> master_;
};

#define ON_EVERY_VERSION(Suite)                                                      \
  INSTANTIATE_TEST_SUITE_P(PostgreSql, Suite,                                        \
                           testing::ValuesIn(bitacora::harness::kSupportedVersions), \
                           testing::PrintToStringParamName())

// For ASSERT_TRUE/EXPECT_TRUE: says the error of a Result.
template <class T>
testing::AssertionResult succeeded(const Result<T>& result) {
  if (result.ok()) return testing::AssertionSuccess();
  return testing::AssertionFailure() << one_line(result.error());
}

}  // namespace bitacora::wal
