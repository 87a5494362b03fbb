#include "transport/inflight_window.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace bitacora::transport {
namespace {

TEST(InflightWindow, HasRoomUntilALimitIsReached) {
  struct Case {
    std::string name;
    InflightLimits limits;
    std::vector<std::size_t> sent;
    bool room;
  };
  const std::vector<Case> cases{
      {"empty", {2, 100}, {}, true},
      {"below both", {2, 100}, {50}, true},
      {"frames reached", {2, 100}, {1, 1}, false},
      {"bytes reached", {9, 100}, {50, 50}, false},
      {"bytes overrun by the last", {9, 100}, {99, 50}, false},
      {"larger than the bound passes alone", {9, 100}, {1000}, false},
      {"no limit is met by nothing sent", {0, 0}, {}, true},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    InflightWindow window(c.limits);
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < c.sent.size(); ++i) {
      window.on_sent(i + 1, c.sent[i]);
      bytes += c.sent[i];
    }
    EXPECT_EQ(window.has_room(), c.room);
    EXPECT_EQ(window.frames(), c.sent.size());
    EXPECT_EQ(window.bytes(), bytes);
  }
}

TEST(InflightWindow, AnAcknowledgementCoversEverythingBefore) {
  InflightWindow window({3, 1000});
  for (std::uint64_t sequence = 1; sequence <= 3; ++sequence) window.on_sent(sequence, 10);
  EXPECT_FALSE(window.has_room());
  EXPECT_TRUE(window.on_acknowledged(2));
  EXPECT_TRUE(window.has_room());
  EXPECT_EQ(window.frames(), 1u);
  EXPECT_EQ(window.bytes(), 10u);
  EXPECT_TRUE(window.on_acknowledged(1)) << "an old one says nothing new";
  EXPECT_TRUE(window.on_acknowledged(0));
  EXPECT_EQ(window.frames(), 1u);
  EXPECT_TRUE(window.on_acknowledged(3));
  EXPECT_EQ(window.bytes(), 0u);
}

TEST(InflightWindow, WhatWasNeverSentCannotHaveArrived) {
  InflightWindow window;
  EXPECT_FALSE(window.on_acknowledged(1));
  window.on_sent(1, 10);
  EXPECT_FALSE(window.on_acknowledged(2));
  EXPECT_EQ(window.frames(), 1u) << "it changes nothing";
}

TEST(InflightWindowDeathTest, SequencesAreWithoutGaps) {
  InflightWindow window;
  window.on_sent(1, 10);
  EXPECT_DEATH(window.on_sent(3, 10), "CHECK failed");
}

}  // namespace
}  // namespace bitacora::transport
