#include "engine/receiver_status.h"

#include <gtest/gtest.h>

namespace bitacora::engine {
namespace {

// Its standby was restored from a backup that is older than the spool.
TEST(ReceiverStatus, ASpoolThatBeginsAnewFurtherBackHasNotWhatItHad) {
  ReceiverStatus status("norte");
  status.on_connected({100});
  status.on_flushed({500}, 1000);
  status.on_connected({200});
  const auto past = std::chrono::steady_clock::now();
  EXPECT_EQ(status.wait_for_change({}, past).flushed, MasterLsn{200});
  status.on_flushed({500}, 1000);  // said before, heard late
  status.on_flushed({250}, 10);
  EXPECT_EQ(status.wait_for_change({}, past).flushed, MasterLsn{250});
}

TEST(ReceiverStatus, ANewConnectionAtTheSpoolsEndChangesNothing) {
  ReceiverStatus status("norte");
  status.on_connected({100});
  status.on_flushed({500}, 1000);
  status.on_connected({600});
  EXPECT_EQ(status.wait_for_change({}, std::chrono::steady_clock::now()).flushed, MasterLsn{500});
}

}  // namespace
}  // namespace bitacora::engine
