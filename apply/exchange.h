// What was sent to the standby ahead of its answers, and what each answer is for.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "apply/pipeline.h"
#include "apply/row_failure.h"
#include "base/error.h"
#include "proto/replication.pb.h"

namespace bitacora::apply {

using SharedChanges = std::shared_ptr<const pb::ChangeBatch>;

enum class Sent {
  kPrepare,
  kBegin,
  kTurn,
  kRow,
  kTruncate,
  kProgress,
  kCommit,
  kPosition,
  kSync,
  kGuarded,   // under a savepoint: its failure is an answer too (GuardedExchange)
  kQuestion,  // the same, and the rows of the answer are kept
};

struct Expected {
  Sent sent;
  bool counted = false;  // a row statement that must say it touched one row
  RowOrigin row = {};
  SharedChanges batch = nullptr;  // keeps what `row` points into
};

// One thread owns it, and the connection with it.
class Exchange {
 public:
  // Called once per answer, in order; an Error of it ends the exchange.
  using OnReply = std::function<Result<void>(const Expected& expected, const PGresult* reply)>;

  Exchange(PGconn* connection, OnReply on_reply)
      : on_reply_(std::move(on_reply)),
        pipeline_(connection, [this](const PGresult* reply) { return take(reply); }) {}

  Result<void> prepare(const std::string& name, const std::string& sql,
                       const std::vector<Oid>& types, Expected expected) {
    expected_.push_back(std::move(expected));
    return pipeline_.prepare(name, sql, types);
  }
  Result<void> execute(const std::string& name, const Parameters& parameters, Expected expected) {
    expected_.push_back(std::move(expected));
    return pipeline_.execute(name, parameters);
  }
  // After an error the server takes commands again from here on.
  Result<void> sync() {
    expected_.push_back({Sent::kSync});
    return pipeline_.sync();
  }
  // Blocks until everything so far is answered.
  Result<void> finish() { return pipeline_.finish(); }

  // Answers everything and leaves the connection to commands that pipelines do not have (COPY),
  // until resume().
  Result<void> pause() {
    RETURN_IF_ERROR(sync());
    RETURN_IF_ERROR(finish());
    return pipeline_.leave();
  }
  Result<void> resume() { return pipeline_.enter(); }

 private:
  Result<void> take(const PGresult* reply) {
    CHECK(!expected_.empty());
    const Expected expected = std::move(expected_.front());
    expected_.pop_front();
    return on_reply_(expected, reply);
  }

  OnReply on_reply_;
  std::deque<Expected> expected_;
  Pipeline pipeline_;
};

}  // namespace bitacora::apply
