#include "base/bounded_queue.h"

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <string>
#include <thread>

namespace bitacora {
namespace {

using namespace std::chrono_literals;
using Queue = BoundedQueue<std::string>;

Queue::Clock::time_point in(std::chrono::milliseconds wait) { return Queue::Clock::now() + wait; }

Pushed push(Queue& queue, std::string item, std::chrono::milliseconds wait = 0ms) {
  const auto bytes = item.size();
  return queue.push(item, bytes, in(wait));
}

TEST(BoundedQueue, FirstInFirstOutWithinItsBytes) {
  Queue queue(10);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(push(queue, "four"), Pushed::kYes);
  EXPECT_EQ(push(queue, "sixsix"), Pushed::kYes);
  EXPECT_EQ(queue.bytes(), 10u);
  EXPECT_EQ(push(queue, "x"), Pushed::kTimedOut);
  EXPECT_EQ(queue.pop(in(0ms)), "four");
  EXPECT_EQ(queue.bytes(), 6u);
  EXPECT_EQ(push(queue, "five5"), Pushed::kTimedOut);
  EXPECT_EQ(push(queue, "4444"), Pushed::kYes);
  EXPECT_EQ(queue.pop(in(0ms)), "sixsix");
  EXPECT_EQ(queue.pop(in(0ms)), "4444");
  EXPECT_EQ(queue.bytes(), 0u);
  EXPECT_EQ(queue.pop(in(0ms)), std::nullopt);
}

TEST(BoundedQueue, ATooLargeItemPassesAlone) {
  Queue queue(3);
  EXPECT_EQ(push(queue, "a"), Pushed::kYes);
  EXPECT_EQ(push(queue, "much too large"), Pushed::kTimedOut);
  EXPECT_EQ(queue.pop(in(0ms)), "a");
  EXPECT_EQ(push(queue, "much too large"), Pushed::kYes);
  EXPECT_EQ(push(queue, ""), Pushed::kTimedOut) << "not even nothing goes beside it";
  EXPECT_EQ(queue.pop(in(0ms)), "much too large");
}

TEST(BoundedQueue, WaitsEndAtTheDeadlineAndTheItemIsStillTheCallers) {
  BoundedQueue<std::unique_ptr<int>> queue(1);
  auto first = std::make_unique<int>(1);
  auto second = std::make_unique<int>(2);
  ASSERT_EQ(queue.push(first, 1, in(0ms)), Pushed::kYes);
  EXPECT_EQ(first, nullptr);
  const auto deadline = in(20ms);
  EXPECT_EQ(queue.push(second, 1, deadline), Pushed::kTimedOut);
  EXPECT_GE(Queue::Clock::now(), deadline);
  ASSERT_NE(second, nullptr);
  ASSERT_TRUE(queue.pop(in(0ms)).has_value());
  const auto later = in(20ms);
  EXPECT_EQ(queue.pop(later), std::nullopt);
  EXPECT_GE(Queue::Clock::now(), later);
  queue.close();
  EXPECT_EQ(queue.push(second, 1, in(10s)), Pushed::kClosed);
  EXPECT_NE(second, nullptr);
}

TEST(BoundedQueue, CloseRefusesPushesAndDrains) {
  Queue queue(10);
  ASSERT_EQ(push(queue, "a"), Pushed::kYes);
  ASSERT_EQ(push(queue, "b"), Pushed::kYes);
  queue.close();
  EXPECT_TRUE(queue.closed());
  EXPECT_EQ(push(queue, "c"), Pushed::kClosed);
  EXPECT_EQ(queue.pop(Queue::Clock::time_point::max()), "a");
  EXPECT_EQ(queue.pop(Queue::Clock::time_point::max()), "b");
  EXPECT_EQ(queue.pop(Queue::Clock::time_point::max()), std::nullopt);
}

TEST(BoundedQueue, CloseWakesBothSides) {
  Queue full(1);
  Queue empty(1);
  ASSERT_EQ(push(full, "a"), Pushed::kYes);
  Pushed pushed = Pushed::kYes;
  std::optional<std::string> popped = "something";
  {
    const std::jthread pusher([&] { pushed = push(full, "b", 60s); });
    const std::jthread popper([&] { popped = empty.pop(in(60s)); });
    std::this_thread::sleep_for(20ms);
    full.close();
    empty.close();
  }
  EXPECT_EQ(pushed, Pushed::kClosed);
  EXPECT_EQ(popped, std::nullopt);
}

TEST(BoundedQueue, TwoThreadsKeepOrderAndBound) {
  constexpr int kItems = 20000;
  constexpr std::size_t kBytesMax = 64;
  BoundedQueue<int> queue(kBytesMax);
  std::jthread producer([&] {
    std::mt19937 random(7);
    for (int i = 0; i < kItems; ++i) {
      int item = i;
      ASSERT_EQ(queue.push(item, random() % kBytesMax + 1, in(60s)), Pushed::kYes);
    }
    queue.close();
  });
  int expected = 0;
  while (const auto item = queue.pop(in(60s))) {
    ASSERT_EQ(*item, expected++);
    ASSERT_LE(queue.bytes(), kBytesMax);
  }
  EXPECT_EQ(expected, kItems);
  EXPECT_TRUE(queue.closed());
}

TEST(BoundedQueue, TakesMoreThanItsBoundFromWhoMustNotWait) {
  BoundedQueue<int> queue(10);
  EXPECT_TRUE(queue.put_beyond(1, 8));
  EXPECT_TRUE(queue.put_beyond(2, 8));
  EXPECT_EQ(queue.bytes(), 16u);
  int third = 3;
  EXPECT_EQ(queue.push(third, 1, BoundedQueue<int>::Clock::now()), Pushed::kTimedOut);
  EXPECT_EQ(queue.pop(BoundedQueue<int>::Clock::now()), 1);
  EXPECT_EQ(queue.pop(BoundedQueue<int>::Clock::now()), 2);
  queue.close();
  EXPECT_FALSE(queue.put_beyond(4, 1));
}

}  // namespace
}  // namespace bitacora
