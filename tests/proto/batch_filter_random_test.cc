#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "proto/batch_filter.h"
#include "tests/proto/played_parts.h"

namespace bitacora::proto {
namespace {

// Random histories of some tables, some of which come and go by a rename, against the same thing
// done to the parts themselves.
class RandomHistory {
 public:
  explicit RandomHistory(std::uint64_t seed) : random_(seed) {}

  EncodedBatch next() {
    const auto which = below(10);
    if (!open_ && which == 0) return block();
    if (!open_ && which == 1 && !streams_.empty()) return end_stream();
    return in_order();
  }
  // What is left of all so far, as lines.
  const std::vector<std::string>& expected() const { return expected_; }
  MasterLsn complete() const { return {complete_}; }
  bool in_sent() const { return open_ && sent_; }

 private:
  struct Stream {
    std::map<std::uint32_t, bool> described;
    bool sent = false;
  };

  std::uint64_t below(std::uint64_t bound) { return random_() % bound; }

  std::string name(std::uint32_t oid) {
    return (below(2) == 0 ? "secret" : "table") + std::to_string(oid);
  }

  // As BatchBuilder: a batch never holds the end of one transaction and a part of the next.
  EncodedBatch in_order() {
    Parts parts;
    if (open_ || below(4) == 0) {
      if (!open_) start(parts);
      some_changes(parts);
      if (below(3) != 0) {
        auto batch = plain(parts);
        batch.transaction_open = true;
        return batch;
      }
      end(parts);
    }
    for (auto count = below(8) + (parts.empty() ? 1u : 0u); count > 0; --count) {
      if (below(5) == 0) {
        add_idle(parts);
        continue;
      }
      start(parts);
      some_changes(parts);
      end(parts);
    }
    return plain(parts);
  }

  void start(Parts& parts) {
    open_ = true;
    sent_ = false;
    lsn_ += below(50);
    begin_ = begin(++xid_, lsn_);
    parts.push_back(begin_);
  }

  void some_changes(Parts& parts) {
    while (below(3) != 0) change(parts, described_, [&](const pb::Part& part) { expect(part); });
  }

  void add_idle(Parts& parts) {
    lsn_ += 1 + below(50);
    complete_ = lsn_;
    parts.push_back(idle(lsn_));
  }

  void end(Parts& parts) {
    const auto from = lsn_;
    lsn_ += 1 + below(50);
    complete_ = lsn_;
    parts.push_back(commit(from, lsn_));
    if (sent_) expected_.push_back(told(parts.back()));
    open_ = false;
  }

  void expect(const pb::Part& part) {
    if (!std::exchange(sent_, true)) expected_.push_back(told(begin_));
    expected_.push_back(told(part));
  }

  template <class Expect>
  void change(Parts& parts, std::map<std::uint32_t, bool>& described, const Expect& expect) {
    const auto oid = static_cast<std::uint32_t>(1 + below(5));
    if (!described.contains(oid) || below(12) == 0) {
      parts.push_back(relation(oid, name(oid)));
      described[oid] = takes("shop", parts.back().relation().name());
      if (described[oid]) expect(parts.back());
    }
    if (below(8) == 0) return change_truncate(parts, described, expect);
    parts.push_back(rows(oid, std::string(below(300), 'x')));
    if (described[oid]) expect(parts.back());
  }

  template <class Expect>
  void change_truncate(Parts& parts, std::map<std::uint32_t, bool>& described,
                       const Expect& expect) {
    std::vector<std::uint32_t> all;
    std::vector<std::uint32_t> left;
    for (const auto& [oid, taken] : described) {
      all.push_back(oid);
      if (taken) left.push_back(oid);
    }
    parts.push_back(truncate(all));
    if (!left.empty()) expect(truncate(left));
  }

  // Markers of subtransactions that nothing follows are no matter.
  EncodedBatch block() {
    const bool first = streams_.empty() || (streams_.size() < 3 && below(3) == 0);
    auto at = first ? streams_.emplace(xid_ += 10, Stream()).first : streams_.begin();
    if (!first) std::advance(at, static_cast<std::ptrdiff_t>(below(streams_.size())));
    auto& [xid, stream] = *at;
    Parts parts;
    std::vector<std::string> kept;
    for (auto count = 1 + below(4); count > 0; --count) {
      const auto marker = subtransaction(xid + static_cast<std::uint32_t>(below(3)));
      parts.push_back(marker);
      bool marked = false;
      const auto expect = [&](const pb::Part& part) {
        if (!std::exchange(marked, true)) kept.push_back(fmt::format("{}: {}", xid, told(marker)));
        kept.push_back(fmt::format("{}: {}", xid, told(part)));
      };
      for (auto changes = 1 + below(3); changes > 0; --changes)
        change(parts, stream.described, expect);
    }
    stream.sent = stream.sent || !kept.empty();
    expected_.insert(expected_.end(), kept.begin(), kept.end());
    return streamed(xid, parts);
  }

  EncodedBatch end_stream() {
    const auto [xid, stream] = *streams_.begin();
    streams_.erase(xid);
    if (below(3) == 0) {
      if (stream.sent) expected_.push_back(fmt::format("abort {}", xid));
      return stream_abort(xid);
    }
    for (const auto& [oid, taken] : stream.described) described_[oid] = taken;
    const auto from = lsn_ += below(20);
    complete_ = lsn_ += 1 + below(20);
    if (stream.sent) {
      expected_.push_back(told(begin(xid, from)));
      expected_.push_back(fmt::format("commit {}", xid));
      expected_.push_back(told(commit(from, lsn_)));
    }
    return stream_commit(xid, from, lsn_);
  }

  std::mt19937_64 random_;
  std::uint32_t xid_ = 1000;
  std::uint64_t lsn_ = 1'000'000;
  std::uint64_t complete_ = 0;
  bool open_ = false;
  bool sent_ = false;
  pb::Part begin_;
  std::map<std::uint32_t, bool> described_;
  std::map<std::uint32_t, Stream> streams_;
  std::vector<std::string> expected_;
};

void play(std::uint64_t seed) {
  SCOPED_TRACE(fmt::format("seed {}", seed));
  RandomHistory history(seed);
  BatchFilter filter(takes);
  std::vector<std::string> received;
  MasterLsn said;
  const auto receive = [&](const EncodedBatch& batch) {
    tell(batch, received);
    if (!batch.end_lsn.valid()) return;
    EXPECT_GT(batch.end_lsn, said);
    said = batch.end_lsn;
    EXPECT_FALSE(history.in_sent()) << "a position inside of a transaction";
  };
  std::mt19937_64 random(seed);
  for (int i = 0; i < 60; ++i) {
    auto left = filter.filter(std::make_shared<const EncodedBatch>(history.next()));
    ASSERT_TRUE(left.ok()) << one_line(left.error());
    if (*left) receive(**left);
    if (filter.unsaid().valid() && random() % 4 == 0) receive(*filter.say_position());
    EXPECT_EQ(std::max(said, filter.unsaid()), history.in_sent() ? said : history.complete());
  }
  std::erase_if(received, [](const auto& line) { return line.starts_with("idle_position"); });
  EXPECT_EQ(received, history.expected());
}

TEST(BatchFilter, RandomHistories) {
  for (std::uint64_t seed = 1; seed <= 500 && !testing::Test::HasFailure(); ++seed) play(seed);
}

}  // namespace
}  // namespace bitacora::proto
