#include "proto/batch_filter.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include <fmt/format.h>

#include "tests/proto/played_parts.h"

namespace bitacora::proto {
namespace {

class Filter {
 public:
  // Null: nothing of it goes on.
  SharedBatch give(EncodedBatch batch) {
    given_ = std::make_shared<const EncodedBatch>(std::move(batch));
    auto left = filter_.filter(given_);
    EXPECT_TRUE(left.ok()) << one_line(left.error());
    return left.ok() ? *left : nullptr;
  }
  // The lines of what goes on.
  std::vector<std::string> left_of(EncodedBatch batch) {
    std::vector<std::string> lines;
    if (const auto left = give(std::move(batch))) tell(*left, lines);
    return lines;
  }
  bool goes_as_it_is(EncodedBatch batch) {
    const auto left = give(std::move(batch));
    return left == given_;
  }
  BatchFilter& filter() { return filter_; }

 private:
  BatchFilter filter_{takes};
  SharedBatch given_;
};

std::vector<std::string> lines(const Parts& parts) {
  std::vector<std::string> told_parts;
  for (const auto& part : parts) told_parts.push_back(told(part));
  return told_parts;
}

TEST(BatchFilter, WhatIsTakenGoesAsItIs) {
  Filter filter;
  EXPECT_TRUE(filter.goes_as_it_is(
      plain({begin(5, 100), relation(1, "orders"), rows(1), truncate({1}), commit(100, 120)})));
  EXPECT_TRUE(filter.goes_as_it_is(plain({begin(6, 130)})) == false) << "it may hold nothing";
  EXPECT_EQ(filter.left_of(middle({rows(1)})), lines({begin(6, 130), rows(1)}));
  EXPECT_TRUE(filter.goes_as_it_is(middle({rows(1), commit(130, 140)})));
  EXPECT_TRUE(filter.goes_as_it_is(plain({idle(150)})));
  EXPECT_TRUE(
      filter.goes_as_it_is(streamed(9, {relation(1, "orders"), subtransaction(9), rows(1)})));
  EXPECT_TRUE(filter.goes_as_it_is(stream_commit(9, 160, 170)));
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
}

TEST(BatchFilter, LeavesOutRowsAndTheirDescriptions) {
  Filter filter;
  const auto left = filter.give(plain({begin(5, 100), relation(1, "orders"), relation(2, "secret"),
                                       rows(2), rows(1), rows(2), commit(100, 120)}));
  ASSERT_NE(left, nullptr);
  std::vector<std::string> told_parts;
  tell(*left, told_parts);
  EXPECT_EQ(told_parts, lines({begin(5, 100), relation(1, "orders"), rows(1), commit(100, 120)}));
  EXPECT_EQ(left->end_lsn, MasterLsn{120});
}

TEST(BatchFilter, NumbersAreDifferencesToWhatIsLeft) {
  Filter filter;
  EXPECT_EQ(filter.left_of(plain({begin(5, 100), relation(1, "orders"), relation(2, "secret"),
                                  rows(1), commit(100, 120), begin(3, 120), rows(2),
                                  commit(120, 150), idle(155), begin(9, 160), rows(1),
                                  commit(160, 170), begin(10, 170), rows(2), commit(170, 190)})),
            lines({begin(5, 100), relation(1, "orders"), rows(1), commit(100, 120), begin(9, 160),
                   rows(1), commit(160, 170), idle(190)}));
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
}

TEST(BatchFilter, WholeTransactionsLeaveOnlyAPosition) {
  Filter filter;
  EXPECT_EQ(filter.give(plain({begin(5, 100), relation(2, "secret"), rows(2), commit(100, 120)})),
            nullptr);
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{120});
  EXPECT_EQ(filter.give(plain({begin(6, 130), rows(2), commit(130, 140)})), nullptr);
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{140});
  const auto position = filter.filter().say_position();
  std::vector<std::string> told_parts;
  tell(*position, told_parts);
  EXPECT_EQ(told_parts, lines({idle(140)}));
  EXPECT_EQ(position->end_lsn, MasterLsn{140});
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
}

TEST(BatchFilter, APositionThatALaterTransactionTellsIsNotSaid) {
  Filter filter;
  filter.give(plain({begin(5, 100), relation(2, "secret"), rows(2), commit(100, 120)}));
  EXPECT_TRUE(filter.goes_as_it_is(
      plain({begin(6, 130), relation(1, "orders"), rows(1), commit(130, 140)})));
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
}

// Its Begin goes with the first part that is left, in whichever batch that is.
TEST(BatchFilter, ATransactionOverManyBatches) {
  Filter filter;
  EXPECT_EQ(
      filter.give(plain({relation(1, "orders"), relation(2, "secret"), begin(5, 100), rows(2)}))
          ->end_lsn,
      MasterLsn{});
  EXPECT_EQ(filter.give(middle({rows(2)})), nullptr);
  const auto left = filter.give(middle({rows(2), rows(1), rows(2)}));
  ASSERT_NE(left, nullptr);
  std::vector<std::string> told_parts;
  tell(*left, told_parts);
  EXPECT_EQ(told_parts, lines({begin(5, 100), rows(1)}));
  EXPECT_EQ(left->end_lsn, MasterLsn{});
  EXPECT_TRUE(left->transaction_open);
  EXPECT_EQ(filter.give(middle({rows(2)})), nullptr);
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{}) << "a position inside of a transaction";
  EXPECT_EQ(filter.left_of(middle({rows(2), commit(100, 120)})), lines({commit(100, 120)}));
}

// A position is said before it, not in it.
TEST(BatchFilter, OneThatIsOpenHidesNoPosition) {
  Filter filter;
  filter.give(plain({begin(5, 100), relation(2, "secret"), rows(2), commit(100, 120)}));
  EXPECT_EQ(filter.give(plain({begin(6, 130), rows(2)})), nullptr);
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{120});
  EXPECT_EQ(filter.left_of(middle({relation(1, "orders"), rows(1)})),
            lines({begin(6, 130), relation(1, "orders"), rows(1)}));
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
}

TEST(BatchFilter, TruncateOfSomeTables) {
  Filter filter;
  filter.give(plain({relation(1, "orders"), relation(2, "secret"), relation(3, "lines")}));
  EXPECT_EQ(filter.left_of(plain({begin(5, 100), truncate({2, 1, 3}), commit(100, 120)})),
            lines({begin(5, 100), truncate({1, 3}), commit(100, 120)}));
  EXPECT_EQ(filter.give(plain({begin(6, 130), truncate({2}), commit(130, 140)})), nullptr);
}

TEST(BatchFilter, ATableThatIsRenamedIsDecidedAnew) {
  Filter filter;
  filter.give(plain({relation(1, "orders"), relation(2, "secret")}));
  EXPECT_EQ(filter.left_of(plain({begin(5, 100), relation(1, "secret_orders"), rows(1),
                                  relation(2, "known"), rows(2), commit(100, 120)})),
            lines({begin(5, 100), relation(2, "known"), rows(2), commit(100, 120)}));
}

TEST(BatchFilter, TypesGoWithTheTablesThatHaveThem) {
  Filter filter;
  EXPECT_EQ(filter.left_of(plain({type(20001), type(20002), relation(1, "orders", 20002),
                                  relation(2, "secret", 20001)})),
            lines({type(20002), relation(1, "orders", 20002)}));
  EXPECT_EQ(filter.left_of(plain({relation(3, "lines", 20001)})),
            lines({type(20001), relation(3, "lines", 20001)}));
}

TEST(BatchFilter, StreamedTransactions) {
  Filter filter;
  filter.give(plain({relation(1, "orders")}));
  EXPECT_EQ(filter.give(streamed(9, {relation(2, "secret"), subtransaction(9), rows(2)})), nullptr);
  EXPECT_EQ(filter.left_of(streamed(9, {subtransaction(9), rows(2), relation(1, "orders"),
                                        subtransaction(11), rows(1), subtransaction(9), rows(2)})),
            (std::vector<std::string>{"9: " + told(subtransaction(9)),
                                      "9: " + told(relation(1, "orders")),
                                      "9: " + told(subtransaction(11)), "9: " + told(rows(1))}));
  EXPECT_EQ(filter.give(streamed(9, {subtransaction(9), rows(2)})), nullptr);
  EXPECT_TRUE(filter.goes_as_it_is(stream_commit(9, 200, 220)));
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{});
  EXPECT_EQ(filter.give(plain({begin(12, 230), rows(2), commit(230, 240)})), nullptr)
      << "described in the transaction";
}

TEST(BatchFilter, AStreamedTransactionOfWhichNothingIsLeft) {
  Filter filter;
  EXPECT_EQ(filter.give(streamed(9, {relation(2, "secret"), subtransaction(9), rows(2)})), nullptr);
  EXPECT_EQ(filter.give(streamed(8, {relation(2, "secret"), subtransaction(8), rows(2)})), nullptr);
  EXPECT_EQ(filter.give(stream_abort(8)), nullptr);
  EXPECT_EQ(filter.give(streamed(9, {subtransaction(10)})), nullptr) << "nothing follows it";
  EXPECT_EQ(filter.give(streamed(9, {})), nullptr);
  EXPECT_EQ(filter.give(stream_commit(9, 200, 220)), nullptr);
  EXPECT_EQ(filter.filter().unsaid(), MasterLsn{220});
  filter.give(streamed(7, {relation(1, "orders"), subtransaction(7), rows(1)}));
  EXPECT_TRUE(filter.goes_as_it_is(stream_abort(7)));
}

// Who joins late gets what was described before in front of the next batch, be it such a commit.
TEST(BatchFilter, DescriptionsInFrontOfACommit) {
  Filter filter;
  filter.give(streamed(9, {relation(2, "secret"), subtransaction(9), rows(2)}));
  filter.give(streamed(8, {relation(1, "orders"), subtransaction(8), rows(1)}));
  const auto left =
      filter.give(stream_commit(9, 200, 220, {relation(2, "secret"), relation(3, "lines")}));
  ASSERT_NE(left, nullptr);
  EXPECT_EQ(left->event, StreamEvent::kNone);
  std::vector<std::string> told_parts;
  tell(*left, told_parts);
  EXPECT_EQ(told_parts, lines({relation(3, "lines"), idle(220)}));
  EXPECT_EQ(left->end_lsn, MasterLsn{220});
  EXPECT_EQ(filter.left_of(stream_commit(8, 230, 240, {relation(2, "secret")})),
            (std::vector<std::string>{told(begin(8, 230)), "commit 8", told(commit(230, 240))}));
}

TEST(BatchFilter, RefusesWhatItCannotJudge) {
  const auto refuses = [](const EncodedBatch& batch) {
    BatchFilter filter(takes);
    const auto left = filter.filter(std::make_shared<const EncodedBatch>(batch));
    return !left.ok() && left.error().heals();
  };
  EXPECT_TRUE(refuses(plain({begin(5, 100), rows(1), commit(100, 120)})));
  EXPECT_TRUE(refuses(plain({begin(5, 100), truncate({1}), commit(100, 120)})));
  EXPECT_TRUE(refuses(stream_commit(9, 200, 220)));
  EXPECT_TRUE(refuses({.bytes = "no batch"}));
  auto cut = plain({begin(5, 100), commit(100, 120)});
  cut.bytes.pop_back();
  EXPECT_TRUE(refuses(cut));
  EXPECT_TRUE(refuses(plain({pb::Part()})));
}

}  // namespace
}  // namespace bitacora::proto
