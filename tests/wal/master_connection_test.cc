#include "wal/master_connection.h"

#include <future>

#include "tests/postgres/database.h"
#include "tests/wal/collecting_sink.h"
#include "tests/wal/every_version.h"
#include "wal/live_reader.h"
#include "wal/replication_slot.h"

namespace bitacora::wal {
namespace {

using harness::eventually;

class MasterConnectorTest : public EveryVersion {
 protected:
  // Where the server sees the connection come from; empty for its socket.
  std::string address() const {
    return value("SELECT client_addr FROM pg_stat_activity WHERE application_name = 'reader'");
  }
};

TEST_P(MasterConnectorTest, TakesTheSocketOfAServerBesideUs) {
  MasterConnector connector(conninfo(), "reader");
  const auto connection = connector.connect();
  ASSERT_TRUE(succeeded(connection));
  EXPECT_EQ(connector.through(), cluster().directory());
  EXPECT_EQ(address(), "");
}

// A number says which address is meant.
TEST_P(MasterConnectorTest, StaysWithTheAddressThatIsGivenAsANumber) {
  MasterConnector connector(conninfo() + " hostaddr=127.0.0.1", "reader");
  const auto connection = connector.connect();
  ASSERT_TRUE(succeeded(connection));
  EXPECT_EQ(connector.through(), "tcp");
  EXPECT_EQ(address(), "127.0.0.1");
}

TEST_P(MasterConnectorTest, ASlotIsReadOverTcpAsWell) {
  sql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES");
  const auto start = create_slot(conninfo(), "main");
  ASSERT_TRUE(succeeded(start));
  CollectingSink sink;
  WakeUp wake_up;
  std::stop_source stop;
  LiveReader reader({conninfo() + " hostaddr=127.0.0.1", "main", "p", "reader"}, sink, wake_up);
  auto running =
      std::async(std::launch::async, [&] { return reader.run(*start, stop.get_token()); });
  sql("INSERT INTO t VALUES (1)");
  EXPECT_TRUE(eventually([&] { return sink.commits() == 1; }));
  EXPECT_EQ(address(), "127.0.0.1");
  stop.request_stop();
  wake_up.signal();
  EXPECT_TRUE(succeeded(running.get()));
}

ON_EVERY_VERSION(MasterConnectorTest);

}  // namespace
}  // namespace bitacora::wal
