// What apply is told of what waits for it.
#include "transport/change_feed.h"

#include <gtest/gtest.h>

#include "tests/transport/played_stream.h"
#include "tests/transport/spool_directory.h"

namespace bitacora::transport {
namespace {

// Or a receiver that starts again would apply its backlog batch by batch until it hears from the
// sender.
TEST_F(SpoolTest, AFeedKnowsThatMoreIsSpooledBeforeAnythingArrives) {
  {
    const auto spool = begun();
    PlayedStream stream(11, 5);
    append_through(*spool, stream, 40);
    sync(*spool);
  }
  const auto spool = open();
  ChangeFeed feed(*spool, 1u << 20);
  ASSERT_TRUE(feed.seek(kStart).ok());
  bool promised = true;
  int batches = 0;
  while (true) {
    const auto event = feed.next(ChangeFeed::Clock::now());
    ASSERT_TRUE(event.ok()) << one_line(event.error());
    const auto* batch = std::get_if<SpoolBatch>(&*event);
    EXPECT_EQ(batch != nullptr, promised) << "after " << batches << " batches";
    if (batch == nullptr) break;
    ++batches;
    promised = feed.more_waiting();
  }
  EXPECT_GT(batches, 20);
  EXPECT_TRUE(feed.live());
}

}  // namespace
}  // namespace bitacora::transport
