#include "tests/equivalence/playground.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <stdexcept>

#include "tests/equivalence/schema.h"

namespace bitacora::equivalence {
namespace {

engine::ThrowawayCluster cluster(const std::string& name) {
  engine::ClusterOptions options;
  options.settings = {{"fsync", "off"},  // nothing crashes here
                      {"max_prepared_transactions", "10"},
                      {"logical_decoding_work_mem", "64kB"}};  // large transactions are streamed
  return engine::ThrowawayCluster::make(name, options).value();
}

harness::PairOptions pair_options(Partitions partitions) {
  harness::PairOptions options;
  if (partitions == Partitions::kOfTheirOwn) {
    options.sender_arguments = {"--publish-via-partition-root"};
  }
  return options;
}

void run(pqxx::connection& connection, const std::string& sql) try {
  pqxx::nontransaction(connection).exec(sql);
} catch (const std::exception& e) {
  throw std::runtime_error(fmt::format("the master refused: {}\n{}", sql, e.what()));
}

std::string first_rows(const std::vector<std::string>& from, const std::vector<std::string>& less) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> rows;
  std::set_difference(from.begin(), from.end(), less.begin(), less.end(), std::back_inserter(rows));
  std::string text;
  for (std::size_t i = 0; i < std::min(rows.size(), kShown); ++i) text += "\n    " + rows[i];
  if (rows.size() > kShown) text += fmt::format("\n    and {} more", rows.size() - kShown);
  return text.empty() ? "\n    nothing" : text;
}

// What both have and is not the same.
std::string difference(const std::string& left, const Content& left_content,
                       const std::string& right, const Content& right_content) {
  std::string text;
  for (const auto& [table, rows] : left_content) {
    const auto other = right_content.find(table);
    if (other == right_content.end() || other->second == rows) continue;
    text += fmt::format("{}:\n  only in {}:{}\n  only in {}:{}\n", table, left,
                        first_rows(rows, other->second), right, first_rows(other->second, rows));
  }
  return text;
}

}  // namespace

Playground::Playground(const std::vector<ApplyPath>& paths, Partitions partitions)
    : partitions_(partitions),
      master_(cluster("equivalence-master")),
      standby_(cluster("equivalence-standby")),
      pair_(master_, standby_, pair_options(partitions)) {
  pair_.on_master(master_schema());
  for (std::size_t i = 0; i < kSessionsMax; ++i) {
    sessions_.push_back(std::make_unique<pqxx::connection>(pair_.master()));
    // A session that waits is a mistake of the generator.
    run(*sessions_.back(), "SET client_min_messages = error; SET lock_timeout = '10s'");
  }
  pair_.start_sender();
  pair_.wait_for_slot();
  built_in_ = std::make_unique<BuiltInFollower>(pair_.master(), standby_, partitions);
  for (const auto& path : paths) {
    paths_.push_back(std::make_unique<PathFollower>(pair_, standby_, path, partitions));
    paths_.back()->start();
  }
  for (const auto& path : paths_) path->wait_until_following();
  wait_for_all(finish());
}

std::string Playground::play(const History& history) {
  run(*sessions_.front(), delete_everything());
  run(*sessions_.front(), history.population);
  wait_for_all(finish());
  for (const auto& path : paths_) path->execute(mark_standby());
  built_in_->execute(mark_standby());
  before_steps(history.delivery);
  for (const auto& step : history.steps) run(*sessions_[step.session], step.sql);
  const auto last = finish();
  after_steps(history.delivery, last);
  wait_for_all(last);
  // Nearly always there are none, and the rows themselves take longer to read.
  return differences(Detail::kDigest).empty() ? "" : differences(Detail::kRows);
}

std::uint64_t Playground::finish() {
  run(*sessions_.front(), fmt::format("INSERT INTO e.finished VALUES ({})", ++finished_));
  return finished_;
}

void Playground::wait_for_all(std::uint64_t finished) {
  for (const auto& path : paths_) {
    if (!pair_.sender().running()) throw std::runtime_error("the sender ended\n" + pair_.story());
    path->wait_for(finished);
  }
  built_in_->wait_for(finished);
}

void Playground::before_steps(Delivery delivery) {
  for (const auto& path : paths_) {
    if (delivery == Delivery::kHeld) path->hold();
    if (delivery == Delivery::kLate) path->stop();
  }
  // The transaction that is held up.
  if (delivery == Delivery::kHeld) finish();
}

void Playground::after_steps(Delivery delivery, std::uint64_t last) {
  // By then all of it has arrived at the receivers too: one group, whenever this seed is played.
  if (delivery == Delivery::kHeld) built_in_->wait_for(last);
  for (const auto& path : paths_) {
    if (delivery == Delivery::kHeld) path->release();
    if (delivery == Delivery::kLate) path->start();
  }
}

// What only the standbys have is measured by PostgreSQL's own subscription.
std::string Playground::differences(Detail detail) {
  const auto master = content_of(*sessions_.front(), Role::kMaster, partitions_, detail);
  const auto built_in = built_in_->content(detail);
  std::string text = difference("the master", master, built_in_->name(), built_in);
  for (const auto& path : paths_) {
    const auto content = path->content(detail);
    auto differs = difference("the master", master, path->name(), content);
    if (differs.empty()) differs = difference(built_in_->name(), built_in, path->name(), content);
    text += differs;
  }
  return text;
}

}  // namespace bitacora::equivalence
