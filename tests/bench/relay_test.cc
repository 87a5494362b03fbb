#include "bench/relay.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <pqxx/pqxx>

#include "engine/throwaway_cluster.h"

namespace bitacora::bench {
namespace {

TEST(Relay, CountsWhatPassesInEachDirection) {
  const auto server = engine::ThrowawayCluster::make("relay").value();
  const Relay relay(server.port());
  const auto through =
      fmt::format("host=127.0.0.1 port={} dbname=postgres user=postgres", relay.port());
  EXPECT_EQ(relay.traffic().sum(), 0u);
  pqxx::connection connection(through);
  pqxx::nontransaction session(connection);
  constexpr std::uint64_t kBytes = 1'000'000;
  constexpr std::uint64_t kAroundBytes = 200;  // the messages around a value

  auto before = relay.traffic();
  ASSERT_EQ(session.exec1(fmt::format("SELECT repeat('x', {})", kBytes))[0].size(), kBytes);
  auto passed = relay.traffic() - before;
  EXPECT_GE(passed.to_client, kBytes);
  EXPECT_LE(passed.to_client, kBytes + kAroundBytes);
  EXPECT_LE(passed.to_server, kAroundBytes);

  before = relay.traffic();
  session.exec(fmt::format("SELECT length('{}')", std::string(kBytes, 'x')));
  passed = relay.traffic() - before;
  EXPECT_GE(passed.to_server, kBytes);
  EXPECT_LE(passed.to_server, kBytes + kAroundBytes);
  EXPECT_LE(passed.to_client, kAroundBytes);
}

TEST(Relay, ClosesWhenTheServerDoesNotListen) {
  const Relay relay(1);
  EXPECT_THROW(pqxx::connection(fmt::format("host=127.0.0.1 port={} dbname=postgres user=postgres",
                                            relay.port())),
               pqxx::broken_connection);
}

}  // namespace
}  // namespace bitacora::bench
